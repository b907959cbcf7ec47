"""The model of a ScreeningPolicy and its validation. Pure."""

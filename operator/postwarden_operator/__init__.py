"""The operator: watches ScreeningPolicy resources, compiles them and pushes the rules to the sidecars."""

// CustomResourceDefinitions of others, against which the chart's optional objects are checked. Nothing is built: harness/foreign_crds.py
// takes the files of the modules that are pinned here.
module postwarden.dev/e2e/tools/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)

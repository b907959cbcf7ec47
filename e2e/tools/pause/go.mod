// The container that holds a pod's namespaces.
module postwarden.dev/e2e/tools/pause

go 1.26.0

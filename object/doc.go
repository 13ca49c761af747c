package object

//go:generate go run k8s.io/code-generator/cmd/deepcopy-gen@v0.36.0 --output-file zz_generated.deepcopy.go --go-header-file ../hack/boilerplate.txt .

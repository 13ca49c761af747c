# Two commands are all a newcomer needs: `make demo` and `make test`. `make help` lists the rest.
GO ?= go
# What is compiled without the race detector is compiled one way, so that building, vetting and testing share it.
STATIC := CGO_ENABLED=0 GOFLAGS='$(strip $(GOFLAGS) -trimpath)'

.PHONY: build test check lint bench fuzz e2e chaos demo demo-stop demo-cluster demo-cluster-stop docs clean help

build: ## build bin/mainstay, one static binary
	$(STATIC) $(GO) build -ldflags '-s -w' -o bin/mainstay ./cmd/mainstay

test: ## run every test, with the race detector; installs what they need
	hack/prerequisites.sh test
	CGO_ENABLED=1 $(GO) test -race -tags docker -timeout 15m ./...

check: lint test ## everything that must hold before a change lands

lint: ## gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	$(STATIC) $(GO) vet -tags docker,chaos ./...
	$(STATIC) $(GO) tool -modfile=tools/go.mod staticcheck -tags docker,chaos ./...

bench: ## run the benchmarks; docs/benchmarks.md holds the results and how they were taken
	hack/prerequisites.sh test
	hack/bench.sh

fuzz: ## fuzz each decoder that reads foreign bytes for a minute
	hack/fuzz.sh 60s

e2e: ## run only the end-to-end tests: a real binary, a real engine, a real repository
	hack/prerequisites.sh test
	$(GO) test -count=1 -v -timeout 15m ./e2e/...

# What chaos is told: for how long servers are hurt; the seed of a run to repeat; how many leaders to kill during activations,
# however long that takes; which of its tests to run.
DURATION ?= 10m
SEED ?= 0
KILLS ?= 0
ONLY ?= .
chaos: ## hurt three and five real servers at random for DURATION=10m; SEED=… repeats, ONLY=Leaders KILLS=500 kills leaders
	hack/prerequisites.sh test
	$(STATIC) $(GO) test -tags chaos -count=1 -v -timeout 0 ./e2e/chaos -run '$(ONLY)' -duration $(DURATION) -seed $(SEED) -kills $(KILLS)

demo: build ## start Mainstay on this machine's Docker Engine with a Git copy of examples/repo
	hack/demo.sh start

demo-stop: build ## stop the demo and remove everything it made
	hack/demo.sh stop

demo-cluster: build ## three servers and three nodes on this machine, of which one of each dies before your eyes
	hack/demo-cluster.sh start

demo-cluster-stop: build ## remove the cluster demo's hosts
	hack/demo-cluster.sh stop

docs: ## write the pages of docs/ that are generated from the code
	$(STATIC) $(GO) test ./object/kube -update

clean: ## stop the demo, if it runs, and remove what was built
	@if [ -e .demo ] && [ -x bin/mainstay ]; then hack/demo.sh stop; fi
	rm -rf bin .demo

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

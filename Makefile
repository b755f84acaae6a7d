# Everything that is done with the source, each by one word. `make` lists them.

GO        ?= go
KIT       := serviceworker
KIT_TOOLS := $(KIT)/node_modules/.package-lock.json
OTHERS    := interop/node_modules/.package-lock.json
GO_FILES   = $(shell find . -name node_modules -prune -o -name '*.go' -print)

# One thing after the other: the race detector and a browser want the machine for themselves.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what tests and lint need, or say what is missing
	@scripts/setup
	@$(GO) mod download
	@$(MAKE) -s --no-print-directory $(KIT_TOOLS) $(OTHERS)

# npm ci touches this file last; it is older than the lock file when that has changed.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# The faults need Linux's /proc, and the end-to-end test a Linux desktop's D-Bus; setup says so elsewhere.
.PHONY: test
test: setup test-go test-fuzz test-kit interop $(if $(filter Linux,$(shell uname)),test-faults e2e) ## set up, then run all tests: Go, odd input, the browser kit, others' libraries, faults, real browsers

.PHONY: test-go
test-go: ## run the Go tests with the race detector
	$(GO) test -race ./...

.PHONY: test-fuzz
test-fuzz: ## make fuzz, for two seconds each
	scripts/fuzz 2s

.PHONY: test-kit
test-kit: $(KIT_TOOLS) ## check the types of the browser kit and run its tests
	cd $(KIT) && npm run --silent check && npm test --silent

.PHONY: interop
interop: $(OTHERS) ## exchange keys, subscriptions and messages with the npm package web-push
	$(GO) test -race -tags interop -count=1 ./interop

.PHONY: test-faults
test-faults: ## make faults, in a small form
	$(GO) test -race -tags faults -count=1 ./faults

.PHONY: faults
faults: ## kill, stop, cut off, starve and damage the real program for minutes, and count what comes of it
	$(GO) test -tags faults -count=1 -timeout 60m -v ./faults -full
	$(GO) test -tags e2e -count=1 -timeout 30m -v ./e2e -run 'TestOpenPage|TestProxiesKeepStreams' -kills 20 -minutes 10

.PHONY: e2e
e2e: ## register, ring and unregister real browsers, end to end
	$(GO) test -race -tags e2e -count=1 -timeout 20m -parallel 4 -v ./e2e

.PHONY: screenshot
screenshot: $(KIT_TOOLS) ## take docs/demo.png and docs/screenshots anew, in the end-to-end test
	BELFRY_SCREENSHOT='$(CURDIR)/docs/demo.png' BELFRY_SCREENSHOTS='$(CURDIR)/docs/screenshots' $(GO) test -tags e2e -count=1 ./e2e -run 'TestVisitor|TestElementsPictures'

.PHONY: lint
lint: $(KIT_TOOLS) ## check form, vet, staticcheck, types, and that macOS and Windows build
	@unformatted=$$(gofmt -l $(GO_FILES)); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,interop,faults ./e2e ./interop ./faults
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags e2e,interop,faults ./e2e ./interop ./faults
	cd $(KIT) && npm run --silent check
	GOOS=darwin $(GO) build ./...
	GOOS=windows $(GO) build ./...

.PHONY: fmt
fmt: ## bring the Go source into form
	gofmt -w $(GO_FILES)

.PHONY: kit
kit: $(KIT_TOOLS) ## print the browser kit that is served, and its types, from the sources
	$(GO) generate ./serviceworker
	cd $(KIT) && npm run --silent types

.PHONY: bench
bench: ## measure sending beside webpush-go, the store at a million rows, broadcasts from end to end, and pages that listen
	$(GO) run ./bench/sending
	$(GO) run ./bench/store
	$(GO) run ./bench/broadcasts
	$(GO) run ./bench/live
	$(GO) test -run '^$$' -bench . -benchmem ./live
	$(GO) test -run '^$$' -bench . -benchmem ./broadcasts

FUZZTIME ?= 5m
.PHONY: fuzz
fuzz: ## throw odd input at all that reads from outside, five minutes each; or FUZZTIME=1h
	scripts/fuzz $(FUZZTIME)

.PHONY: vulncheck
vulncheck: ## look for known holes in what we import (asks the network)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

.PHONY: run
run: ## run the server with its demo page on http://localhost:8080/; ARGS='--listen …' adds flags
	$(GO) run ./cmd/belfry serve $(ARGS)

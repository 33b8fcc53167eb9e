# Every target sets up what it needs (scripts/setup); `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ARCHES  := amd64 arm64 arm
TOOL    := go tool -modfile=tools/go.mod
GOFLAGS_STRIP := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# libvirt is opened at run time, so that its headers are not needed.
TAGS    := libvirt_dlopen
TESTOUT ?= .fleet/test

##@ Use
.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: fleetctl fleetctl-vm fleetctl-helm agents fleet-server ## Build fleetctl, fleet-server and the agent for every architecture into bin/

.PHONY: demo
demo: ## From nothing to a container on a VM, in one command (ARCH=x86_64)
	@scripts/setup build demo
	@$(MAKE) build demo-parts
	@scripts/demo up

.PHONY: demo-clean
demo-clean: ## Remove everything that the demo made
	@scripts/demo down

##@ Build
# The demo's own registry and web app; they are not installed anywhere.
.PHONY: demo-parts
demo-parts:
	@CGO_ENABLED=0 go build $(GOFLAGS_STRIP) -o bin/demo-registry ./internal/testhost/cmd/demo-registry
	@for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOARCH=$$arch go build -trimpath -ldflags "-s -w" -o bin/demoapp-linux-$$arch ./internal/testhost/demoapp; \
	done

.PHONY: fleetctl fleetctl-vm fleetctl-helm agents fleet-server
fleetctl:
	@scripts/setup build
	@mkdir -p bin
	CGO_ENABLED=0 go build $(GOFLAGS_STRIP) -o bin/fleetctl ./cmd/fleetctl

# The same with libvirt, which takes longer to open than all else takes to start:
# fleetctl runs it for what needs libvirt.
fleetctl-vm:
	@scripts/setup build
	@mkdir -p bin
	go build -tags $(TAGS) $(GOFLAGS_STRIP) -o bin/fleetctl-vm ./cmd/fleetctl

# What fleetctl installs others' charts with: the Helm SDK, apart from it.
fleetctl-helm:
	@mkdir -p bin
	@echo "go build -o bin/fleetctl-helm ./helm/cmd/fleetctl-helm"
	@cd helm && CGO_ENABLED=0 go build $(GOFLAGS_STRIP) -o ../bin/fleetctl-helm ./cmd/fleetctl-helm

agents:
	@mkdir -p bin
	@for arch in $(ARCHES); do \
		echo "go build -o bin/fleet-agent-linux-$$arch ./cmd/fleet-agent"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch GOARM=6 go build $(GOFLAGS_STRIP) -o bin/fleet-agent-linux-$$arch ./cmd/fleet-agent; \
	done

fleet-server: ## Build the control plane alone (about 10 minutes the first time)
	@mkdir -p bin
	@echo "go build -o bin/fleet-server ./server/cmd/fleet-server   (Kubernetes' API server: about 10 minutes the first time)"
	@cd server && CGO_ENABLED=0 go build $(GOFLAGS_STRIP) -o ../bin/fleet-server ./cmd/fleet-server

.PHONY: images
images: ## Container images in bin/images/, or in a registry (PUSH=registry.example.com/fleet)
	@$(MAKE) build
	@echo "go build -o bin/fleet-server-linux-arm64 ./server/cmd/fleet-server   (about 10 minutes the first time)"
	@cd server && CGO_ENABLED=0 GOARCH=arm64 go build $(GOFLAGS_STRIP) -o ../bin/fleet-server-linux-arm64 ./cmd/fleet-server
	@mkdir -p bin/images
	@go run ./internal/ociimage/cmd/images --name fleet-agent --version $(VERSION) --amd64 bin/fleet-agent-linux-amd64 --arm64 bin/fleet-agent-linux-arm64 $(if $(PUSH),--push $(PUSH),--output bin/images/fleet-agent.tar)
	@go run ./internal/ociimage/cmd/images --name fleet-server --version $(VERSION) --amd64 bin/fleet-server --arm64 bin/fleet-server-linux-arm64 $(if $(PUSH),--push $(PUSH),--output bin/images/fleet-server.tar)

.PHONY: generate
generate: ## Regenerate what is generated: deep copies, CRDs
	go generate ./...

##@ Test
# All of them run, also when some fail: what is wrong is known at once. Those of
# the server and those on hosts wait for most of their time, and share it.
.PHONY: test
test: ## All tests: units, throw-away hosts, virtual machines, a browser
	@scripts/setup build test
	@rm -rf $(TESTOUT)
	@$(MAKE) build
	@status=0; $(MAKE) -j1 --keep-going test-root test-helm test-dashboard || status=1; \
	$(MAKE) -j2 --keep-going test-server test-hosts || status=1; \
	$(MAKE) -j1 --keep-going test-vm || status=1; exit $$status

# run-tests NAME TAGS PACKAGES ARGS MODULE: one summary and one machine-readable
# record a run. Up to five tests may fail once; the summary names them.
define run-tests
	@mkdir -p $(TESTOUT)
	@modfile=$(CURDIR)/tools/go.mod; cd $(or $(5),.) && $(if $(5),CGO_ENABLED=0 GOFLAGS=-trimpath) go tool -modfile=$$modfile gotestsum \
		--format pkgname --hide-summary skipped --jsonfile $(abspath $(TESTOUT))/$(1).json \
		--rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-run-root-test --packages="$(3)" -- -tags "$(2)" $(4)
endef

# tagged TAG: the packages with tests behind the build tag.
tagged = $$(git grep -l --untracked -E '^//go:build $(1)( |$$)' -- '*_test.go' ':!server' | xargs -n1 dirname | sort -u | sed 's,^,./,')
# only TAG: those tests alone. The others of the packages were run without it.
only = -run "^($$(git grep -l --untracked -E '^//go:build .*$(1)' -- '*_test.go' ':!server' | xargs grep -hoE '^func (Test|Example|Fuzz)[A-Za-z0-9_]+' | cut -d' ' -f2 | sort -u | paste -sd'|'))$$"

.PHONY: test-unit test-root test-helm test-server
test-unit: test-root test-helm test-server ## Tests that need neither root nor a virtual machine, under the race detector

test-root:
	$(call run-tests,unit,$(TAGS),./...,-race)

test-helm:
	$(call run-tests,helm,,./...,,helm)

test-server: fleet-server
	$(call run-tests,apiserver,$(TAGS) apiserver,$(call tagged,apiserver),-p 1 $(call only,apiserver))
	$(call run-tests,server,,./...,-timeout 25m,server)

.PHONY: test-hosts
test-hosts: ## Tests on throw-away systemd hosts (root; Debian packages)
	@scripts/setup build test
	$(call run-tests,hosts,$(TAGS) hosts,$(call tagged,hosts),-p 1 -timeout 25m $(call only,hosts))

.PHONY: test-vm
test-vm: ## Tests with real virtual machines (root; minutes under emulation)
	@scripts/setup build test
	$(call run-tests,vm,$(TAGS) vm,$(call tagged,vm),-p 1 -timeout 40m $(call only,vm))

.PHONY: test-dashboard
test-dashboard: fleetctl agents fleet-server ## The dashboard in a real Chromium: on a played fleet, and on a real device (root)
	@scripts/setup build test browser
	@cd internal/dashboard/browsertest && npm ci --silent --no-audit --no-fund --ignore-scripts
	@scripts/dashboard-assets --check
	$(call run-tests,dashboard,$(TAGS) browser,./internal/dashboard/browsertest,-exec $(CURDIR)/scripts/offline -count 1)
	$(call run-tests,dashboard-device,$(TAGS) hosts browser,./internal/e2e,-run TestDashboard -count 1 -timeout 10m)

.PHONY: soak
soak: ## Live through faults: a played fleet on a killed server (ROUNDS=, DEVICES=), drift, reboots, killed agents, a full disk, Podman gone and an hour of nothing (TRIALS=, REBOOTS=, KILLS=, CALM=), killed onboarding, a clock that jumps, VMs killed as they are made (CYCLES=); SEED= replays
	@scripts/setup build test
	@$(MAKE) build
	go test -tags "$(TAGS) apiserver" -count 1 -v -timeout 4h -run '^TestSoak$$' ./internal/fleetsim -soak.rounds $(or $(ROUNDS),60) -soak.devices $(or $(DEVICES),200) $(if $(SEED),-soak.seed $(SEED))
	go test -tags "$(TAGS) hosts" -count 1 -v -timeout 3h -run '^Test(DriftTrials|OfflineReboots|FaultsOnPodman|DiskOnPodman|SocketGoneAndBack|NoFalseRestart)$$' ./agent -soak.trials $(or $(TRIALS),20) -soak.reboots $(or $(REBOOTS),50) -soak.kills $(or $(KILLS),50) -soak.calm $(or $(CALM),1h) $(if $(SEED),-soak.seed $(SEED))
	go test -tags "$(TAGS) hosts" -count 1 -v -timeout 1h -run '^TestOnboardKilled$$' ./internal/e2e -kill.count 0 $(if $(SEED),-kill.seed $(SEED))
	go test -tags "$(TAGS) vm" -count 1 -v -timeout 1h -run '^TestDeviceInAMachine$$' ./internal/e2e -machine.arch x86_64,aarch64 -machine.faults
	go test -tags "$(TAGS) vm" -count 1 -v -timeout 2h -run '^TestKilledCyclesConverge$$' ./vm/libvirt -soak.cycles $(or $(CYCLES),30) $(if $(SEED),-soak.seed $(SEED))

.PHONY: bench
bench: ## Measure the figures of docs/benchmarks.md
	@scripts/setup build bench
	@$(MAKE) build
	@scripts/bench

.PHONY: lint
lint: ## Linters and import rules
	@scripts/setup lint
	$(TOOL) golangci-lint run ./...
	for module in server helm; do (cd $$module && CGO_ENABLED=0 GOFLAGS=-trimpath go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run ./...); done
	shellcheck $$(grep -lE '^#!.*(bash|sh)$$' scripts/* .ci/run)

.PHONY: verify
verify: ## Fail when generated files are stale, modules untidy or code unformatted
	@scripts/verify

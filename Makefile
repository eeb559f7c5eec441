# What a person or CI runs here. `make` alone lists it. Everything works from a clean clone with Rust; scripts/setup gets
# what else is missing and says so.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo quick test check bench fuzz setup clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Walk through every flow on a real broker and the simulator, then go on serving; ONCE=1 ends after the walk
	@scripts/setup build
	@scripts/demo $(if $(filter-out 0,$(ONCE)),--once)

quick: ## Format, lints and unit tests: for the inner loop
	@scripts/setup build
	@scripts/check format lints
	@scripts/test --lib

test: ## Run all tests and say how many ran; TEST=name runs those whose name contains it
	@scripts/setup build test
	@scripts/test $(TEST)

check: ## Format, lints, contract, scripts, documents, chart; HELM=path names a helm, HELM=skip leaves the chart out
	@scripts/setup build check
	@scripts/check

bench: ## Measure; the tables go to the terminal
	@scripts/setup build
	cargo bench --workspace

fuzz: export SMSBRIDGE_FUZZ_SECONDS ?= 600
fuzz: ## Throw random input at every edge for ten minutes; SMSBRIDGE_FUZZ_SECONDS=n for another time
	@scripts/setup build test
	@scripts/test fuzz

setup: ## Get what is missing for all of the above
	@scripts/setup build test check

clean: ## Stop what `make demo` left running and remove what was built
	@scripts/broker stop
	cargo clean

# The commands of this repository, for people and CI. `make` alone lists them. They need Rust; scripts/setup installs what
# else is missing, and says so.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo quick test test-browser test-clients check bench fuzz crash-test crash-seeds custody-test trace-test outage-test fleet-test dead-letter-test version-test mutants setup clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Walk through every flow on a real broker and the simulator, then go on serving; ONCE=1 ends after the walk
	@scripts/setup build
	@scripts/demo $(if $(filter-out 0,$(ONCE)),--once)

quick: ## Format, lints and unit tests: for the inner loop
	@scripts/setup build
	@scripts/check format lints
	@scripts/test --lib

test: ## Run all tests and count them; TEST=name runs those whose name contains it
	@scripts/setup build test
	@scripts/test $(TEST)

test-browser: ## Test the simulator's page in Chromium; TEST=flows.test.js runs one file, PICTURES=1 renews the pictures of the documents
	@scripts/test-browser $(if $(filter-out 0,$(PICTURES)),--pictures) $(TEST)

test-clients: ## Run the examples in five AMQP clients against RabbitMQ 4.3 and the installed one; CLIENT=amqp091-go runs one
	@scripts/test-clients $(CLIENT)

check: ## Format, lints, contract, scripts, documents, chart; HELM=path names the helm to use, HELM=skip skips the chart
	@scripts/setup build check
	@scripts/check

bench: ## Run the benchmarks; prints tables
	@scripts/setup build
	cargo bench --workspace

fuzz: export SMSBRIDGE_FUZZ_SECONDS ?= 600
fuzz: ## Send random input to every edge for ten minutes; SMSBRIDGE_FUZZ_SECONDS=n for another time
	@scripts/setup build test
	@scripts/test fuzz

crash-test: export SMSBRIDGE_CRASH_CYCLES = $(or $(CYCLES),30)
crash-test: export SMSBRIDGE_CRASH_SEED = $(or $(SEED),1)
crash-test: export SMSBRIDGE_CRASH_COMMANDS = $(COMMANDS)
crash-test: export SMSBRIDGE_CRASH_BEYOND = $(BEYOND)
crash-test: ## Kill the bridge CYCLES times (30) and the broker every tenth time, and judge the promises; SEED=s COMMANDS=n BEYOND=1
	@scripts/setup build test
	@scripts/test crash::kills -- --nocapture

crash-seeds: export SMSBRIDGE_CRASH_WHOLE_SEEDS = 1
crash-seeds: ## Run each seed of the crash test that ever failed in full
	@scripts/setup build test
	@scripts/test crash::seeds -- --nocapture

custody-test: export SMSBRIDGE_CUSTODY_CYCLES = $(or $(CYCLES),200)
custody-test: export SMSBRIDGE_CUSTODY_SEED = $(or $(SEED),1)
custody-test: export SMSBRIDGE_CUSTODY_REPORTS = $(or $(REPORTS),50000)
custody-test: ## Push REPORTS=n reports (50000) and a tenth of received messages while the bridge is killed CYCLES times (200), on both engines; SEED=s
	@scripts/setup build test
	@scripts/test crash::pushes -- --nocapture --test-threads 1

trace-test: ## Trace the system calls of the bridge (needs strace) and the confirms of the broker during 1,000 pushes: no answer is early
	@scripts/setup build test
	@scripts/test webhooks::answered_after -- --include-ignored

outage-test: export SMSBRIDGE_OUTAGE_SECONDS = $(or $(SECONDS),60)
outage-test: export SMSBRIDGE_OUTAGE_COMMANDS = $(or $(COMMANDS),50000)
outage-test: export SMSBRIDGE_ALARM_SECONDS = $(or $(ALARM),600)
outage-test: ## Five kinds of outages of the API, SECONDS=s (60) each, and an alarm of the broker, ALARM=s (600), with COMMANDS=n queued (50000)
	@scripts/setup build test
	@scripts/test crash::outage -- --nocapture --test-threads 1

fleet-test: export SMSBRIDGE_FLEET_LONG = 1
fleet-test: ## Two and three bridges: one killed, one drained, one frozen; a rolling restart of a broker of three nodes, its leader killed
	@scripts/setup build test
	@scripts/test crash::fleet -- --nocapture --test-threads 1
	@scripts/test crash::cluster -- --include-ignored --nocapture --test-threads 1

dead-letter-test: export SMSBRIDGE_DEAD_LETTERS = $(or $(LETTERS),100000)
dead-letter-test: ## List LETTERS=n dead letters (100000), replay and discard some, kill the bridge meanwhile, and count
	@scripts/setup build test
	@scripts/test dead_letters_for_operators::a_kill -- --nocapture

version-test: ## Run the tests of the AMQP interface and the short crash test on several brokers; VERSIONS="3.10 4.0 4.3"
	@scripts/setup build test
	@scripts/version-test $(VERSIONS)

mutants: ## Undo one mend of a severe defect after the other, and require that the tests notice each
	@scripts/setup build test
	@scripts/mutants

setup: ## Install what is missing for all of the above
	@scripts/setup build test check

clean: ## Stop the brokers that were started here, and delete build output
	@scripts/broker stop
	@scripts/broker-version stop
	cargo clean

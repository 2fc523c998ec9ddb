# A thin front: Meson builds, tools/test runs the test matrix, bench/run the benchmarks.
#
#   make demo  [ARGS=…]            builds the command, shows what it is for
#   make test  [ONLY=…]            the tests, in eleven configurations (some 20 minutes)
#   make test-long [ONLY=…]        five more, and random tests much longer (two to three hours)
#   make bench NAME=… [ARGS=…]     one benchmark
#   make install [PREFIX=…] [DESTDIR=…]
#   make clean
#
# Each installs the Debian packages it needs, if one is missing (packages.txt). What is
# built lies below build/.

PREFIX ?= /usr/local
BUILD := $(shell tools/build-directory)
RELEASE := $(BUILD)/release

# Runs a command; shows what it said if it fails.
quietly = $(1) >$(BUILD)/release.log 2>&1 || { tail -n 30 $(BUILD)/release.log >&2; exit 1; }

.PHONY: all configured demo test test-long bench install clean
.NOTPARALLEL:
.DEFAULT_GOAL := all

configured:
	@test -n "$(BUILD)"
	@tools/install-packages build
	@mkdir -p $(BUILD)
	@test -e $(RELEASE)/build.ninja || $(call quietly,\
		meson setup $(RELEASE) --buildtype=release -Dtests=disabled -Dprefix=$(PREFIX))

all: configured
	@$(call quietly,ninja -C $(RELEASE))

demo: configured
	@$(call quietly,ninja -C $(RELEASE) src/cli/quire)
	@$(RELEASE)/src/cli/quire demo $(ARGS)

test: test-packages
	@tools/test --build $(BUILD)/test $(if $(ONLY),--only $(ONLY))

test-long: test-packages
	@tools/test --build $(BUILD)/test --long $(if $(ONLY),--only $(ONLY))

.PHONY: test-packages
test-packages:
	@test -n "$(BUILD)"
	@tools/install-packages build test bench
	@tools/install-packages --optional arm64
	@tools/install-packages --optional languages

bench: all
	@tools/install-packages bench
	@test -n "$(NAME)" || { echo "make bench: which? NAME=… (bench/run --help lists them)" >&2; exit 2; }
	@QUIRE_BENCH_BUILD=$(RELEASE) bench/run $(NAME) $(ARGS)

install: all
	@meson configure $(RELEASE) -Dprefix=$(PREFIX)
	@$(call quietly,ninja -C $(RELEASE))
	@DESTDIR="$(DESTDIR)" meson install --no-rebuild --quiet -C $(RELEASE)
	@test -n "$(DESTDIR)" || test "$$(id -u)" != 0 || ldconfig

clean:
	@rm -rf $(BUILD)

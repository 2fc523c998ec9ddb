# A thin front: Meson builds, tools/test runs the test matrix, bench/run the benchmarks.
#
#   make demo  [ARGS=…]            builds the release, shows what it is for
#   make test  [ONLY=…]            every test in every configuration (about 15 minutes)
#   make test-long                 the same, random tests much longer
#   make bench NAME=… [ARGS=…]     one benchmark
#   make install [PREFIX=…] [DESTDIR=…]
#   make clean
#
# Each installs the Debian packages it needs, if one is missing (packages.txt).

PREFIX ?= /usr/local
RELEASE := build/release

.PHONY: all demo test test-long bench install clean
.NOTPARALLEL:

all:
	@tools/install-packages build
	@test -e $(RELEASE)/build.ninja || meson setup $(RELEASE) --buildtype=release -Dtests=disabled -Dprefix=$(PREFIX) >/dev/null
	@ninja --quiet -C $(RELEASE)

demo: all
	@$(RELEASE)/src/cli/quire demo $(ARGS)

test:
	@tools/install-packages build test bench
	@tools/install-packages --optional arm64
	@tools/test $(if $(ONLY),--only $(ONLY))

test-long:
	@tools/install-packages build test bench
	@tools/install-packages --optional arm64
	@tools/test --long $(if $(ONLY),--only $(ONLY))

bench: all
	@tools/install-packages bench
	@test -n "$(NAME)" || { echo "make bench: NAME=… is missing; one of: $$(bench/run --list)" >&2; exit 2; }
	@bench/run $(NAME) $(ARGS)

install: all
	@meson configure $(RELEASE) -Dprefix=$(PREFIX)
	@DESTDIR="$(DESTDIR)" meson install --quiet -C $(RELEASE)
	@test -n "$(DESTDIR)" || test "$$(id -u)" != 0 || ldconfig

clean:
	@rm -rf build

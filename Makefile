# The front door: `make help` lists what there is.

CARGO      ?= cargo
CFLAGS     ?= -O2 -g
DESTDIR    ?=
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

# One place for everything that is built, whatever the environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target

SHARED  := target/release/libshmhot.so
STATIC  := target/release/libshmhot.a
RUSTC   := rustc --release --lib --features capi
SONAME   = -- -C link-arg=-Wl,-soname,libshmhot.so.$(ABI)
HEADERS := include/shmhot.h $(wildcard include/shmhot/*.h)
STAGE   := $(CURDIR)/target/stage
STAGED  := target/stage/lib/pkgconfig/shmhot.pc
VERSION  = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ABI      = $(shell sed -n 's/^\#define SHMHOT_ABI_VERSION //p' include/shmhot/status.h)

.DELETE_ON_ERROR:
.PHONY: all build bench bench-python c-tests clean demo examples FORCE fuzz gem headers help install lint soak test uninstall wheel

all: build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | sort | \
	    while IFS='|' read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done

build: $(SHARED) ## the library: target/release/libshmhot.so and .a

# cargo knows best whether something is to be done, and leaves the files alone when not. The crate types are given
# here and not in Cargo.toml: docs/decisions/0001-one-package.md.
$(SHARED) $(STATIC) &: FORCE | setup-build
	@$(CARGO) $(RUSTC) --crate-type cdylib,staticlib $(SONAME)

# What a purpose needs beside Rust: looked for, and installed when missing and permitted.
setup-%: FORCE
	@tools/setup $*

demo: setup-demo examples wheel ## HTTP servers in C and in Ruby, under load; their metrics; signals, as a picture; a clock page
	@tools/demo

test: setup-test ## everything that proves a change, in less than ten minutes
	@tools/test

SOAK_ROUNDS ?= 20
soak: setup-build ## the ring's tests SOAK_ROUNDS times over, those of memory that is shared at full length
	@for round in $$(seq $(SOAK_ROUNDS)); do \
	    echo "round $$round"; $(CARGO) test --quiet --features capi --test ring || exit 1; done
	SHMHOT_SOAK=1 $(CARGO) test --features capi --test circbuf --test vmclock --test observer -- --show-output

FUZZ         ?= circbuf_metadata
FUZZ_SECONDS ?= 60
fuzz: setup-fuzz ## FUZZ=circbuf_metadata or circbuf_header, for FUZZ_SECONDS
	@mkdir -p target/fuzz/corpus/$(FUZZ)
	@PATH="$(CURDIR)/target/fuzz/bin:$$PATH" $(CARGO) +nightly fuzz run --target-dir target/fuzz $(FUZZ) \
	    target/fuzz/corpus/$(FUZZ) $(wildcard src/circbuf/metadata/corpus) -- -max_total_time=$(FUZZ_SECONDS) -timeout=10

lint: setup-test ## formatting, clippy, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --all-features -- -D warnings
	@tools/deny

headers: setup-build ## writes include/ anew from src/
	SHMHOT_BLESS=1 $(CARGO) test -q --features capi --test headers committed

gem: setup-gem build ## target/shmhot-*.gem, with the library inside
	rm -rf target/gem target/shmhot-*.gem
	cp -r ruby target/gem
	cp $(SHARED) target/gem/lib/shmhot
	cd target/gem && gem build --quiet shmhot.gemspec && mv shmhot-*.gem ..

# The library is built once more, for C libraries as old as Rust allows, and put in by auditwheel, which tells by the
# wheel's name how old that is: docs/decisions/0010-python.md.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
wheel: setup-wheel $(STAGED) ## target/wheel/*.whl for Python, with the library inside
	rm -rf target/python target/wheel
	cp -r bindings/python target/python
	cp LICENSE* target/python
	PATH="$$(tools/venv wheel bindings/python/requirements/wheel.txt)/bin:$$PATH" && \
	cargo-zigbuild $(RUSTC) --quiet --crate-type cdylib --target $(HOST).2.17 $(SONAME) && \
	install -D target/$(HOST)/release/libshmhot.so target/python/lib/libshmhot.so.$(ABI) && \
	cd target/python && \
	PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . && \
	LD_LIBRARY_PATH=$$PWD/lib auditwheel repair --wheel-dir ../wheel dist/*.whl

clean: ## removes all that was built
	$(CARGO) clean

## Installation

# Builds only when nothing is built, so that `make && sudo make install` needs no toolchain for root.
install: $(if $(wildcard $(SHARED)),,build) ## library, headers and shmhot.pc, to $(DESTDIR)$(PREFIX)
	$(call install_into,$(DESTDIR),$(PREFIX),$(LIBDIR),$(INCLUDEDIR))

uninstall: ## removes what install put there
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libshmhot.so.$(VERSION) libshmhot.so.$(ABI) libshmhot.so libshmhot.a pkgconfig/shmhot.pc)
	rm -f $(addprefix $(DESTDIR)$(INCLUDEDIR)/,$(HEADERS:include/%=%))
	-rmdir $(DESTDIR)$(INCLUDEDIR)/shmhot

# $(call install_into,DESTDIR,PREFIX,LIBDIR,INCLUDEDIR)
define install_into
	install -d $(1)$(3)/pkgconfig $(1)$(4)/shmhot
	install -m 755 $(SHARED) $(1)$(3)/libshmhot.so.$(VERSION)
	ln -sf libshmhot.so.$(VERSION) $(1)$(3)/libshmhot.so.$(ABI)
	ln -sf libshmhot.so.$(ABI) $(1)$(3)/libshmhot.so
	install -m 644 $(STATIC) $(1)$(3)/libshmhot.a
	install -m 644 include/shmhot.h $(1)$(4)
	install -m 644 $(wildcard include/shmhot/*.h) $(1)$(4)/shmhot
	sed -e 's|@PREFIX@|$(2)|' -e 's|@LIBDIR@|$(patsubst $(2)/%,$${prefix}/%,$(3))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(2)/%,$${prefix}/%,$(4))|' -e 's|@VERSION@|$(VERSION)|' \
	    shmhot.pc.in > $(1)$(3)/pkgconfig/shmhot.pc
endef

## Programs in C

# Examples, tests and the wheel are built as users build theirs: by pkg-config, from an installation.
$(STAGED): $(SHARED) $(STATIC) $(HEADERS) shmhot.pc.in
	echo '  install into target/stage'
	rm -rf $(STAGE)
	$(call install_into,,$(STAGE),$(STAGE)/lib,$(STAGE)/include)
.SILENT: $(STAGED)

WARNINGS := -Wall -Wextra -pedantic -Werror
PKG      := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig pkg-config
SHARED_FLAGS = $$($(PKG) --cflags --libs shmhot) -Wl,-rpath,$(STAGE)/lib
STATIC_FLAGS = -static $$($(PKG) --static --cflags --libs shmhot)

# $(call compile,FLAGS): the target from its first prerequisite
define compile
	@echo '  cc $@'
	@mkdir -p $(@D)
	@$(if $(filter %.cpp,$<),$(CXX) -std=c++17,$(CC) -std=gnu11) $(CFLAGS) $(WARNINGS) -pthread $< -o $@ $(1)
endef

EXAMPLES := $(patsubst c-examples/%.c,target/examples/%,$(wildcard c-examples/*.c))
examples: setup-examples $(EXAMPLES) $(EXAMPLES:=-static) ## c-examples/, linked shared and static, in target/examples

target/examples/%-static: c-examples/%.c $(wildcard c-examples/*.h) $(STAGED)
	$(call compile,$(STATIC_FLAGS))

target/examples/%: c-examples/%.c $(wildcard c-examples/*.h) $(STAGED)
	$(call compile,$(SHARED_FLAGS))

# The tests, once more with the sanitizers watching the calls, and the README's program word for word.
C_TESTS  := $(patsubst tests/c/%.c,target/c-tests/%,$(wildcard tests/c/*.c))
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
c-tests: setup-test $(C_TESTS) $(C_TESTS:=-sanitized) target/c-tests/cxx target/readme/echo

target/c-tests/%-sanitized: tests/c/%.c tests/c/check.h $(STAGED)
	$(call compile,$(SANITIZE) $(SHARED_FLAGS))

target/c-tests/%: tests/c/%.c tests/c/check.h $(STAGED)
	$(call compile,$(SHARED_FLAGS))

target/c-tests/%: tests/c/%.cpp $(STAGED)
	$(call compile,$(SHARED_FLAGS))

target/readme/echo: target/readme/echo.c $(STAGED)
	$(call compile,$(SHARED_FLAGS))

target/readme/echo.c: README.md
	@mkdir -p $(@D)
	@sed -n '/^```c$$/,/^```$$/{/^```/!p}' $< > $@

## Benches

# The programs to compare the ring with know nothing of the library.
BENCHES := $(addprefix target/bench/,http_uring http_epoll echo_epoll echo_load observer_calls observer_read \
    circbuf_calls circbuf_copies circbuf_readers circbuf_wake)
BENCH   ?= hotpath observer vmclock circbuf
bench: setup-bench build examples $(BENCHES) $(if $(filter circbuf,$(BENCH)),bench-python) ## against the originals and the limits; BENCH=one of them, BENCH_OPTIONS="--help"
	@for bench in $(BENCH); do $(CARGO) bench --bench $$bench -- $(BENCH_OPTIONS) || exit 1; done

# The Python package beside the one that it is measured with.
bench-python: wheel
	@"$$(tools/venv bench benches/circbuf/requirements.txt)/bin/pip" install --quiet --no-deps --force-reinstall target/wheel/*.whl

target/bench/circbuf_%: benches/circbuf/%.c benches/circbuf/bench.h $(STAGED)
	$(call compile,$(SHARED_FLAGS))

target/bench/observer_%: benches/observer/%.c $(STAGED)
	$(call compile,$(SHARED_FLAGS))

target/bench/http_uring: LIBRARIES := -luring
target/bench/%: benches/hotpath/%.c $(wildcard benches/hotpath/*.h) c-examples/http.h
	$(call compile,$(LIBRARIES))

# Builds, installs and removes the C library. Needs cargo, a C linker, GNU make, awk and sed.
#
#   make                      builds it, into target/install
#   make install              builds what is not built, and installs it; `make && sudo make install`
#                             needs no cargo as root
#   make uninstall            removes what `make install` with the same settings installs
#   make doc                  the reference as HTML, into target/c-reference; needs doxygen
#
#   PREFIX=/usr/local         where it will be used
#   DESTDIR=                  put before every path, for packagers; no installed file knows it
#   LIBDIR=$(PREFIX)/lib      INCLUDEDIR=$(PREFIX)/include      MANDIR=$(PREFIX)/share/man
#   DOC=target/c-reference    where `make doc` writes
#   CARGO, CARGO_TARGET_DIR, CARGO_BUILD_TARGET   as cargo has them
#
# The rule: a version is read from Cargo.toml, and every installed text is made from one source.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
CARGO      ?= cargo
INSTALL    ?= install

field       = $(shell sed -n 's/^$(1) = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
VERSION    := $(call field,version)
SUMMARY    := $(call field,description)
SONAME     := libecholoop.so.$(firstword $(subst ., ,$(VERSION)))
REALNAME   := libecholoop.so.$(VERSION)

# A folder of its own: the library that programs find in target/release has no SONAME, so that they run from there.
BUILD      := $(abspath $(or $(CARGO_TARGET_DIR),target))/install
OUT        := $(BUILD)/$(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)release
DOC        ?= $(dir $(BUILD))c-reference
TEMPLATES  := crates/capi/install
ADAPTERS   := $(wildcard include/echoloop/adapters/*.h)
SOURCES    := $(wildcard Cargo.* crates/core/Cargo.toml crates/server/Cargo.toml crates/capi/Cargo.toml) \
              $(shell find crates/core/src crates/server/src crates/capi/src -name '*.rs')

LIB        := $(DESTDIR)$(LIBDIR)
INCLUDE    := $(DESTDIR)$(INCLUDEDIR)
MAN        := $(DESTDIR)$(MANDIR)/man3
PKGCONFIG  := $(LIB)/pkgconfig
CMAKE      := $(LIB)/cmake/echoloop

# Where the headers are, as seen from the CMake files: relative, so that the tree can be moved, if both are in PREFIX.
in_prefix   = $(patsubst $(PREFIX)/%,%,$(filter $(PREFIX)/%,$(1)))
up          = $(subst $() ,/,$(patsubst %,..,$(subst /, ,$(call in_prefix,$(LIBDIR))/cmake/echoloop)))
SEEN       := $(if $(and $(call in_prefix,$(LIBDIR)),$(call in_prefix,$(INCLUDEDIR))),$\
              $${CMAKE_CURRENT_LIST_DIR}/$(up)/$(call in_prefix,$(INCLUDEDIR)),$(INCLUDEDIR))

# What a program needs beside the static library. Compilers add libc and libgcc by themselves, each in the form that
# fits; libgcc_s has no static one.
PRIVATE     = $(filter-out -lgcc_s -lc,$(shell cat '$(OUT)/native-static-libs'))

FILL        = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@SUMMARY@|$(SUMMARY)|' -e 's|@SONAME@|$(SONAME)|' \
              -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
              -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' -e 's|@SEEN@|$(SEEN)|' \
              -e 's|@PRIVATE@|$(PRIVATE)|'

all: $(OUT)/libecholoop.so

$(OUT)/libecholoop.so: $(SOURCES)
	mkdir -p '$(OUT)'
	$(CARGO) rustc --release --package echoloop-capi --lib --crate-type cdylib,staticlib --target-dir '$(BUILD)' \
		-- -C link-arg=-Wl,-soname,$(SONAME) --print native-static-libs='$(OUT)/native-static-libs'
	touch '$@'

install: all
	$(INSTALL) -d '$(LIB)' '$(PKGCONFIG)' '$(CMAKE)' '$(INCLUDE)' '$(MAN)'
	$(INSTALL) -m 755 '$(OUT)/libecholoop.so' '$(LIB)/$(REALNAME)'
	ln -sf $(REALNAME) '$(LIB)/$(SONAME)'
	ln -sf $(SONAME) '$(LIB)/libecholoop.so'
	$(INSTALL) -m 644 '$(OUT)/libecholoop.a' '$(LIB)/libecholoop.a'
	$(INSTALL) -m 644 include/echoloop.h '$(INCLUDE)/echoloop.h'
	$(if $(ADAPTERS),$(INSTALL) -d '$(INCLUDE)/echoloop/adapters')
	$(if $(ADAPTERS),$(INSTALL) -m 644 $(ADAPTERS) '$(INCLUDE)/echoloop/adapters')
	$(FILL) $(TEMPLATES)/echoloop.pc.in >'$(PKGCONFIG)/echoloop.pc'
	$(FILL) $(TEMPLATES)/echoloopConfig.cmake.in >'$(CMAKE)/echoloopConfig.cmake'
	$(FILL) $(TEMPLATES)/echoloopConfigVersion.cmake.in >'$(CMAKE)/echoloopConfigVersion.cmake'
	awk -v version=$(VERSION) -f $(TEMPLATES)/manual.awk include/echoloop.h >'$(MAN)/echoloop.3'
	chmod 644 '$(PKGCONFIG)/echoloop.pc' '$(CMAKE)/echoloopConfig.cmake' '$(CMAKE)/echoloopConfigVersion.cmake' \
		'$(MAN)/echoloop.3'

uninstall:
	rm -f '$(LIB)/$(REALNAME)' '$(LIB)/$(SONAME)' '$(LIB)/libecholoop.so' '$(LIB)/libecholoop.a' \
		'$(PKGCONFIG)/echoloop.pc' '$(CMAKE)/echoloopConfig.cmake' '$(CMAKE)/echoloopConfigVersion.cmake' \
		'$(INCLUDE)/echoloop.h' $(foreach adapter,$(ADAPTERS),'$(DESTDIR)$(INCLUDEDIR)/$(adapter:include/%=%)') \
		'$(MAN)/echoloop.3'
	-rmdir '$(CMAKE)' '$(INCLUDE)/echoloop/adapters' '$(INCLUDE)/echoloop' 2>/dev/null || true

doc:
	mkdir -p '$(DOC)'
	VERSION=$(VERSION) OUT='$(DOC)' doxygen crates/capi/Doxyfile

.PHONY: all doc install uninstall

SHELL := /bin/bash
VENV := .venv
PROGRAMS := openconnect=openconnect ip=iproute2 ping=iputils-ping nft=nftables
TEST_PROGRAMS := $(PROGRAMS) ocserv=ocserv tcpdump=tcpdump \
	dbus-daemon=dbus-daemon dbus-send=dbus-bin gnome-keyring-daemon=gnome-keyring \
	tinyproxy=tinyproxy-bin microsocks=microsocks slapd=slapd ldapadd=ldap-utils \
	freeradius=freeradius iperf3=iperf3 ethtool=ethtool \
	redis-server=redis-server redis-cli=redis-tools xmlsec1=xmlsec1
BENCH_PROGRAMS := $(PROGRAMS) ocserv=ocserv iperf3=iperf3 ethtool=ethtool \
	openvpn=openvpn wireguard-go=wireguard-go wg=wireguard-tools perf=linux-perf
COMPILER := cc=gcc /usr/include/openssl/evp.h=libssl-dev /usr/include/python3*/Python.h=python3-dev
ifeq ($(shell dpkg --print-architecture 2>/dev/null),amd64)
COMPILER += /usr/include/intel-ipsec-mb.h=libipsec-mb-dev
endif
ENGINE := hatch_build.py $(wildcard anyvpn/packets/compiled/*)
ARGS ?=
TIME ?= 60

.PHONY: run test test-lesser check-engine fuzz-engine bench docs clean compiler

# Shows a gateway and two clients at work; ARGS=--once ends after the report
run: $(VENV)/.installed
	@tools/install-packages $(PROGRAMS)
	@$(VENV)/bin/python -m demo.run $(ARGS)

# Checks everything; needs root for the network namespaces of tests/interop
test: $(VENV)/.installed-test $(VENV)/resolved
	tools/install-packages $(TEST_PROGRAMS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# Runs tests/interop as where the compiled engine could not be built, then as on a kernel without
# offloads; half an hour
test-lesser: $(VENV)/.installed-test $(VENV)/resolved
	tools/install-packages $(TEST_PROGRAMS)
	tools/test-without extension $(ARGS)
	tools/test-without offloads $(ARGS)

# Runs the compiled engine's tests under AddressSanitizer, UndefinedBehaviorSanitizer, ThreadSanitizer
check-engine: $(VENV)/.installed-test
	tools/check-engine $(ARGS)

# Fuzzes the compiled engine, each harness for TIME seconds; ARGS=control takes that one alone
fuzz-engine: $(VENV)/.installed-test
	tools/install-packages clang=clang
	tools/fuzz-engine $(TIME) $(ARGS)

# Compares with other gateways on this machine; needs root. ARGS=--list shows the rows
bench: $(VENV)/.installed-bench
	@tools/install-packages $(BENCH_PROGRAMS)
	@$(VENV)/bin/python -m bench.run $(ARGS)

docs: $(VENV)/.installed-test
	$(VENV)/bin/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache

# The package would take over this host's own /etc/resolv.conf
$(VENV)/resolved: $(VENV)/.installed-test
	tools/unpack-packages $@.new systemd-resolved libsystemd-shared
	mv $@.new $@

compiler:
	@tools/install-packages $(COMPILER)

$(VENV)/.installed: pyproject.toml $(ENGINE)
	tools/make-venv $(VENV) ""
	touch $@

$(VENV)/.installed-bench: pyproject.toml $(ENGINE) | compiler
	ANYVPN_COMPILED=require tools/make-venv $(VENV) "[bench]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml $(ENGINE) | compiler
	ANYVPN_COMPILED=require tools/make-venv $(VENV) "[test]"
	touch $@ $(VENV)/.installed

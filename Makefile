SHELL := /bin/bash
VENV := .venv
PROGRAMS := openconnect=openconnect ip=iproute2 ping=iputils-ping nft=nftables
TEST_PROGRAMS := $(PROGRAMS) ocserv=ocserv tcpdump=tcpdump \
	dbus-daemon=dbus-daemon dbus-send=dbus-bin gnome-keyring-daemon=gnome-keyring \
	tinyproxy=tinyproxy-bin microsocks=microsocks slapd=slapd ldapadd=ldap-utils \
	freeradius=freeradius
ARGS ?=

.PHONY: run test docs clean

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

docs: $(VENV)/.installed-test
	$(VENV)/bin/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache

# The package would take over this host's own /etc/resolv.conf
$(VENV)/resolved: $(VENV)/.installed-test
	tools/unpack-packages $@.new systemd-resolved libsystemd-shared
	mv $@.new $@

$(VENV)/.installed: pyproject.toml
	tools/make-venv $(VENV) ""
	touch $@

$(VENV)/.installed-test: pyproject.toml
	tools/make-venv $(VENV) "[test]"
	touch $@ $(VENV)/.installed

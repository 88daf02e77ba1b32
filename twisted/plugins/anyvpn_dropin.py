"""What anyvpn brings to Twisted: its services for twistd, and the built-in backends."""

from twisted.application.service import ServiceMaker

from anyvpn.plugins import Backend, ClientEndpointParser

gateway = ServiceMaker(  # type: ignore[no-untyped-call]  # Twisted has no types here
    "anyvpn-gateway",
    "anyvpn.tap.gateway",
    "AnyConnect-compatible SSL VPN gateway",
    "anyvpn-gateway",
)

client = ServiceMaker(  # type: ignore[no-untyped-call]  # Twisted has no types here
    "anyvpn-client",
    "anyvpn.tap.client",
    "AnyConnect-compatible SSL VPN client for links without a user",
    "anyvpn-client",
)

authenticator_any = Backend(
    "authenticator",
    "any",
    "anyvpn.backends.authenticator_any",
    "several authenticators, of which one must accept",
)
authenticator_certificate = Backend(
    "authenticator",
    "certificate",
    "anyvpn.backends.authenticator_certificate",
    "the client's TLS certificate, with CRL and OCSP",
)
authenticator_chain = Backend(
    "authenticator",
    "chain",
    "anyvpn.backends.authenticator_chain",
    "several authenticators, which must all accept",
)
authenticator_cred = Backend(
    "authenticator",
    "cred",
    "anyvpn.backends.authenticator_cred",
    "any checker of twisted.cred, by its strcred string",
)
authenticator_certificate_pair = Backend(
    "authenticator",
    "certificate_pair",
    "anyvpn.backends.authenticator_certificate_pair",
    "a machine's certificate by TLS, and a user's that signs",
)
authenticator_hotp = Backend(
    "authenticator",
    "hotp",
    "anyvpn.backends.authenticator_hotp",
    "counted one-time codes of a token, after a password or inside its form",
)
authenticator_ldap = Backend(
    "authenticator",
    "ldap",
    "anyvpn.backends.authenticator_ldap",
    "passwords, groups and attributes of an LDAP directory",
)
authenticator_oidc = Backend(
    "authenticator",
    "oidc",
    "anyvpn.backends.authenticator_oidc",
    "an identity provider of OpenID Connect, in the user's browser",
    extra="anyvpn[oidc]",
)
authenticator_pam = Backend(
    "authenticator",
    "pam",
    "anyvpn.backends.authenticator_pam",
    "the system's PAM, in a helper process, with any number of questions",
)
authenticator_password_file = Backend(
    "authenticator",
    "password_file",
    "anyvpn.backends.authenticator_password_file",
    "user names and argon2id hashes in a text file",
)
authenticator_radius = Backend(
    "authenticator",
    "radius",
    "anyvpn.backends.authenticator_radius",
    "RADIUS servers: PAP or MS-CHAPv2, challenges, reply attributes",
)
authenticator_saml = Backend(
    "authenticator",
    "saml",
    "anyvpn.backends.authenticator_saml",
    "an identity provider of SAML 2.0, in the user's browser",
    extra="anyvpn[saml]",
)
authenticator_totp = Backend(
    "authenticator",
    "totp",
    "anyvpn.backends.authenticator_totp",
    "time-based one-time codes of a phone, after a password or inside its form",
)
authorizer_python = Backend(
    "authorizer",
    "python",
    "anyvpn.backends.authorizer_python",
    "a Python function of your own",
)
authorizer_static = Backend(
    "authorizer",
    "static",
    "anyvpn.backends.authorizer_static",
    "group policies from the configuration, by profile, group, user and attributes",
)
addresses_pool = Backend(
    "addresses",
    "pool",
    "anyvpn.backends.addresses_pool",
    "IPv4 and IPv6 pools, static addresses, the same address again for the same user",
)
profiles_directory = Backend(
    "profiles",
    "directory",
    "anyvpn.backends.profiles_directory",
    "AnyConnect profiles from a directory of XML files",
)
tun_linux = Backend(
    "tun",
    "linux",
    "anyvpn.backends.tun_linux",
    "a tun device of the Linux kernel, with routes and optional NAT",
)
sessions_sqlite = Backend(
    "sessions",
    "sqlite",
    "anyvpn.backends.sessions_sqlite",
    "sessions in an SQLite file, which outlive a restart",
)
sessions_memory = Backend(
    "sessions",
    "memory",
    "anyvpn.backends.sessions_memory",
    "sessions in memory, which end with the process",
)
listener_json_lines = Backend(
    "listener",
    "json_lines",
    "anyvpn.backends.listener_json_lines",
    "one line of JSON for each event, in a file",
)
listener_radius = Backend(
    "listener",
    "radius",
    "anyvpn.backends.listener_radius",
    "RADIUS accounting: start, interim, stop",
)
listener_script = Backend(
    "listener",
    "script",
    "anyvpn.backends.listener_script",
    "a script of yours when a session starts or ends, with ocserv's variables",
)
listener_sqlite = Backend(
    "listener",
    "sqlite",
    "anyvpn.backends.listener_sqlite",
    "a table of sessions in an SQLite file",
)
listener_log = Backend(
    "listener",
    "log",
    "anyvpn.backends.listener_log",
    "one log line for each event",
)
adapter_linux = Backend(
    "adapter",
    "linux",
    "anyvpn.backends.adapter_linux",
    "a tun device of the client's host, with addresses, routes and resolvers",
)
responder_given = Backend(
    "responder",
    "given",
    "anyvpn.backends.responder_given",
    "answers given ahead: user name, password or its file, other fields",
)
responder_terminal = Backend(
    "responder",
    "terminal",
    "anyvpn.backends.responder_terminal",
    "asks the user at the terminal",
)
responder_totp = Backend(
    "responder",
    "totp",
    "anyvpn.backends.responder_totp",
    "time-based one-time codes of a secret",
)
responder_keyring = Backend(
    "responder",
    "keyring",
    "anyvpn.backends.responder_keyring",
    "the password that the desktop's keyring keeps",
)
responder_browser = Backend(
    "responder",
    "browser",
    "anyvpn.backends.responder_browser",
    "lets the user log in with the browser of this host",
)
responder_command = Backend(
    "responder",
    "command",
    "anyvpn.backends.responder_command",
    "asks a command: a password manager, a dialog window, a script",
)
adapter_namespace = Backend(
    "adapter",
    "namespace",
    "anyvpn.backends.adapter_namespace",
    "a tun device in a network namespace of its own, without privileges",
)
adapter_script = Backend(
    "adapter",
    "script",
    "anyvpn.backends.adapter_script",
    "a tun device set up by vpnc-script, or by a script like it",
)

client_endpoint = ClientEndpointParser("anyvpn", "anyvpn.tap.client_endpoint")

"""Finds backends: what dropins under twisted/plugins announce, imported when it is named."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from difflib import get_close_matches
from types import MappingProxyType, ModuleType

import attrs
from twisted import plugins as dropins
from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.logger import Logger
from twisted.plugin import IPlugin, getCache
from twisted.python.modules import getModule
from zope.interface import Interface, implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from anyvpn.errors import BackendUnavailable
from anyvpn.interfaces import (
    IAdapterBackend,
    IAddressAllocator,
    IAuthenticator,
    IAuthorizer,
    IBackend,
    IEventListener,
    IProfileProvider,
    IResponder,
    ISessionStore,
    ITunBackend,
)

log = Logger()

KINDS: MappingProxyType[str, type[Interface]] = MappingProxyType(
    {
        "authenticator": IAuthenticator,
        "authorizer": IAuthorizer,
        "addresses": IAddressAllocator,
        "profiles": IProfileProvider,
        "tun": ITunBackend,
        "sessions": ISessionStore,
        "listener": IEventListener,
        "responder": IResponder,
        "adapter": IAdapterBackend,
    }
)
"""Kind to the interface that a backend of this kind provides."""


@implementer(IPlugin, IBackend)
class Backend:
    """One backend as a dropin announces it; `module` is imported at the first use only.

    The module has `Settings`, an attrs class, and `build(settings, reactor)`. `extra` names what
    of the package brings the modules that it needs, such as "anyvpn[oidc]".
    """

    def __init__(self, kind: str, name: str, module: str, summary: str, *, extra: str = "") -> None:
        if kind not in KINDS:
            raise ValueError(f"there is no backend kind {kind!r}, but {', '.join(KINDS)}")
        self.kind = kind
        self.name = name
        self.module = module
        self.summary = summary
        self.extra = extra

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r} from {self.module}>"

    def settings_class(self) -> type:
        """The attrs class of its settings. Raises BackendUnavailable."""
        settings = getattr(self._imported(), "Settings", None)
        if not isinstance(settings, type) or not attrs.has(settings):
            raise self._unavailable("its module has no attrs class `Settings`")
        return settings

    def build(self, settings: object, reactor: object) -> object:
        """Make the backend from its settings.

        Raises: BackendUnavailable: what the module builds does not keep to its interface.
        Raises: ConfigurationError: the settings cannot work.
        """
        build = getattr(self._imported(), "build", None)
        if not callable(build):
            raise self._unavailable("its module has no function `build(settings, reactor)`")
        built: object = build(settings, reactor)
        try:
            verifyObject(KINDS[self.kind], built)
        except Invalid as error:
            raise self._unavailable(" ".join(str(error).split())) from error
        return built

    def _imported(self) -> ModuleType:
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            hint = f'; pip install "{self.extra}" brings what it needs' if self.extra else ""
            raise self._unavailable(f"its module cannot be imported: {error!r}{hint}") from error
        except Exception as error:  # whatever foreign code raises while it is imported
            raise self._unavailable(f"its module cannot be imported: {error!r}") from error

    def _unavailable(self, problem: str) -> BackendUnavailable:
        return BackendUnavailable(
            f'the {self.kind} backend "{self.name}" ({self.module}) cannot be used: {problem}'
        )


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class ClientEndpointParser:
    """Lets Twisted's `clientFromString` know strings that begin with `prefix`.

    `module` is imported at the first use only; it has `parse_client_endpoint`, which takes the
    reactor and the parts of the string.
    """

    def __init__(self, prefix: str, module: str) -> None:
        self.prefix = prefix
        self.module = module

    def parseStreamClient(
        self, reactor: IReactorCore, *arguments: object, **options: object
    ) -> IStreamClientEndpoint:
        """The endpoint that the string stands for. Raises what the module raises."""
        parser = importlib.import_module(self.module)
        endpoint: IStreamClientEndpoint = parser.parse_client_endpoint(
            reactor, *arguments, **options
        )
        return endpoint


def backends() -> list[IBackend]:
    """Everything that is installed, by kind and name; one that cannot be loaded is logged."""
    return sorted(_announced(), key=lambda each: (each.kind, each.name))


def find_backend(kind: str, name: str) -> IBackend:
    """The backend that a configuration names.

    Raises: BackendUnavailable: there is none of this kind and name, or more than one.
    """
    if kind not in KINDS:
        raise BackendUnavailable(f'there is no backend kind "{kind}"; there are {", ".join(KINDS)}')
    of_this_kind = [each for each in backends() if each.kind == kind]
    found = [each for each in of_this_kind if each.name == name]
    if len(found) > 1:
        both = " and ".join(sorted(map(_origin, found)))
        raise BackendUnavailable(
            f'the {kind} backend "{name}" is announced by {both}: uninstall all but one'
        )
    if not found:
        raise BackendUnavailable(_not_found(kind, name, [each.name for each in of_this_kind]))
    return found[0]


def _announced() -> Iterator[IBackend]:
    cache = getCache(dropins)  # type: ignore[no-untyped-call]  # Twisted has no types here
    package = getModule(dropins.__name__)  # type: ignore[no-untyped-call]  # nor here
    for module in package.iterModules():
        # getCache has logged why; without the name nobody finds the package to blame
        if module.name.rpartition(".")[2] not in cache:
            log.error("The plugin {module} cannot be imported, it is left out", module=module.name)
    for dropin in cache.values():
        for plugin in dropin.plugins:
            try:
                backend = IBackend(plugin, None)
                if backend is None:
                    continue
                verifyObject(IBackend, backend)
            except Exception:  # a foreign plugin costs only itself
                log.failure(
                    "The plugin {plugin} of {module} cannot be used, it is left out",
                    plugin=plugin.name,
                    module=dropin.moduleName,
                )
                continue
            yield backend


def _not_found(kind: str, name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    there_are = f"there are {', '.join(names)}" if names else "there are none"
    return f'there is no {kind} backend "{name}"{hint} ({there_are})'


def _origin(backend: IBackend) -> str:
    return str(getattr(backend, "module", type(backend).__module__))

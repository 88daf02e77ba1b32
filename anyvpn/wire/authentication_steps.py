"""The `auth` element of a gateway: forms, group lists and browser logins.

Source: protocol reference, sections 3.2, 3.6 to 3.8 and 3.11.
"""

from __future__ import annotations

from anyvpn.errors import MalformedMessage
from anyvpn.model.authentication import (
    BrowserLogin,
    Choice,
    Field,
    Form,
    GroupList,
    LoginStep,
    Option,
)
from anyvpn.wire.authentication_client import GROUP_FIELD
from anyvpn.wire.xml_document import (
    MAXIMUM_TEXT,
    Element,
    add_element,
    child_text,
    whole_text,
    without_controls,
)

# From the protocol
MAIN = "main"
_PLACEHOLDER = "%s"
_LOGIN_FAILED = "91"

# Ours
_MAXIMUM_MESSAGE = 64 * 1024  # characters; a banner can be a page of legal text


# --- texts ------------------------------------------------------------------------------------


def message_text(element: Element | None) -> str:
    """A text for the user, with the parameters put where it says "%s".

    Raises: MessageTooLarge.
    """
    text = whole_text(element, _MAXIMUM_MESSAGE)
    if element is None or _PLACEHOLDER not in text:
        return text
    parts = text.split(_PLACEHOLDER, 2)
    filled = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        filled += element.get(f"param{number}", _PLACEHOLDER) + part
    return filled


def add_message(parent: Element, name: str, text: str, identifier: str = "") -> None:
    """Append a text for the user.

    Clients look for parameters where a text says "%s", so such a text goes out without any.
    """
    element = add_element(parent, name, text)
    if identifier:
        element.set("id", without_controls(identifier))
        if _PLACEHOLDER not in text:
            element.set("param1", "")
            element.set("param2", "")


# --- reading ----------------------------------------------------------------------------------


def asks_something(auth: Element | None) -> bool:
    """Whether there is anything in it to answer."""
    return auth is not None and any(
        auth.find(name) is not None for name in ("form", "sso-v2-login", "authentication-complete")
    )


def read_step(auth: Element, outer_error: Element | None) -> LoginStep:
    """The step, its groups and its action; `outer_error` stands beside the `auth` element.

    Raises: MalformedMessage, MessageTooLarge.
    """
    form = auth.find("form")
    action = ""
    fields: list[Field | Choice] = []
    groups = None
    token_field = ""
    if form is not None:
        if form.get("method", "post").lower() != "post":
            raise MalformedMessage("a form is to be sent by another method than POST")
        action = _attribute(form, "action")
        for element in form:
            if element.tag == "select":
                choice = _read_choice(element)
                if choice is not None and choice.name == GROUP_FIELD:
                    groups = _group_list(choice)
                elif choice is not None:
                    fields.append(choice)
            elif element.tag == "input" and element.get("type") == "sso":
                token_field = _attribute(element, "name")
            elif element.tag == "input":
                fields.extend(_read_input(element))
    login_url = child_text(auth, "sso-v2-login")
    return LoginStep(
        step=_read_browser_login(auth, outer_error, login_url, token_field)
        if login_url
        else _read_form(auth, outer_error, tuple(fields)),
        groups=groups,
        action=action,
        nothing_to_ask=auth.find("authentication-complete") is not None,
        banner=message_text(auth.find("banner")),
    )


def _read_form(
    auth: Element, outer_error: Element | None, fields: tuple[Field | Choice, ...]
) -> Form:
    message = auth.find("message")
    error = _error_element(auth, outer_error)
    return Form(
        message=message_text(message),
        fields=fields,
        title=message_text(auth.find("title")),
        kind=_attribute(auth, "id") or MAIN,
        error=message_text(error),
        error_id="" if error is None else _attribute(error, "id"),
        message_id="" if message is None else _attribute(message, "id"),
    )


def _read_browser_login(
    auth: Element, outer_error: Element | None, login_url: str, token_field: str
) -> BrowserLogin:
    return BrowserLogin(
        login_url=login_url,
        final_url=child_text(auth, "sso-v2-login-final"),
        token_cookie=child_text(auth, "sso-v2-token-cookie-name"),
        error_cookie=child_text(auth, "sso-v2-error-cookie-name"),
        logout_url=child_text(auth, "sso-v2-logout"),
        external=child_text(auth, "sso-v2-browser-mode") == "external",
        message=message_text(auth.find("message")),
        title=message_text(auth.find("title")),
        error=message_text(_error_element(auth, outer_error)),
        token_field=token_field,
    )


def _error_element(auth: Element, outer_error: Element | None) -> Element | None:
    error = auth.find("error")
    return error if whole_text(error, _MAXIMUM_MESSAGE) else outer_error


def _read_input(element: Element) -> tuple[Field, ...]:
    """No field at all for buttons and for inputs that nothing can be made of."""
    name, kind = _attribute(element, "name"), element.get("type")
    if not name or kind not in {"text", "password", "hidden"}:
        return ()
    return (
        Field(
            name=name,
            label=_attribute(element, "label", f"{name}:"),
            secret=kind == "password",
            hidden=kind == "hidden",
            value=_attribute(element, "value", maximum=_MAXIMUM_MESSAGE),
            second=element.get("second-auth") == "1",
        ),
    )


def _read_choice(element: Element) -> Choice | None:
    name = _attribute(element, "name")
    options = tuple(_read_option(option) for option in element.findall("option"))
    if not name or not options:
        return None
    return Choice(name, _attribute(element, "label"), options)


def _read_option(element: Element) -> Option:
    label = whole_text(element)
    return Option(
        value=_attribute(element, "value", label),
        label=label,
        selected=element.get("selected", "").lower() == "true",
        second=element.get("second-auth") == "1",
        without_credentials=element.get("noaaa") == "1",
        secondary_username=_attribute(element, "secondary_username"),
        secondary_username_editable=element.get("secondary_username_editable") == "true",
    )


def _group_list(choice: Choice) -> GroupList:
    """The groups with the selected one first; without a selected one the first counts."""
    selected = next((option for option in choice.options if option.selected), choice.options[0])
    others = (option for option in choice.options if option is not selected)
    return GroupList((selected, *others), choice.label)


def _attribute(element: Element, name: str, default: str = "", maximum: int = MAXIMUM_TEXT) -> str:
    value = element.get(name, default)
    if len(value) > maximum:
        raise MalformedMessage(f"a {name} of {len(value)} characters")
    return value


# --- writing ----------------------------------------------------------------------------------


def write_step(auth: Element, message: LoginStep, step: Form | BrowserLogin) -> None:
    """Fill an `auth` element, whose id the caller has set."""
    if message.nothing_to_ask:
        add_element(auth, "authentication-complete")
        return
    add_element(auth, "title", step.title)
    add_message(auth, "message", step.message, step.message_id if isinstance(step, Form) else "")
    if message.banner:
        add_element(auth, "banner", message.banner)
    if step.error:
        error_id = step.error_id if isinstance(step, Form) else _LOGIN_FAILED
        add_message(auth, "error", step.error, error_id)
    if isinstance(step, BrowserLogin):
        _write_browser_login(auth, step)
    form = add_element(auth, "form", method="post")
    if message.action:
        form.set("action", without_controls(message.action))
    if isinstance(step, BrowserLogin):
        add_element(form, "input", type="sso", name=step.token_field)
    else:
        for each in step.fields:
            if isinstance(each, Choice):
                _write_select(form, each.name, each.label, each.options)
            else:
                _write_input(form, each)
    if message.groups is not None and message.groups.options:
        _write_select(
            form, GROUP_FIELD, message.groups.label, message.groups.options, first_selected=True
        )


def _write_browser_login(auth: Element, step: BrowserLogin) -> None:
    add_element(auth, "sso-v2-login", step.login_url)
    add_element(auth, "sso-v2-login-final", step.final_url)
    if step.logout_url:
        add_element(auth, "sso-v2-logout", step.logout_url)
        add_element(auth, "sso-v2-logout-final", step.final_url)
    add_element(auth, "sso-v2-token-cookie-name", step.token_cookie)
    add_element(auth, "sso-v2-error-cookie-name", step.error_cookie)
    if step.external:
        add_element(auth, "sso-v2-browser-mode", "external")


def _write_input(form: Element, each: Field) -> None:
    kind = "hidden" if each.hidden else "password" if each.secret else "text"
    element = add_element(form, "input", type=kind, name=each.name, label=each.label)
    if each.value and (each.hidden or not each.secret):
        element.set("value", without_controls(each.value))
    if each.second:
        element.set("second-auth", "1")


def _write_select(
    form: Element,
    name: str,
    label: str,
    options: tuple[Option, ...],
    *,
    first_selected: bool = False,
) -> None:
    select = add_element(form, "select", name=name, label=label)
    for number, option in enumerate(options):
        element = add_element(select, "option", option.label or option.value, value=option.value)
        if (number == 0) if first_selected else option.selected:
            element.set("selected", "true")
        if option.second:
            element.set("second-auth", "1")
        if option.secondary_username:
            element.set("secondary_username", without_controls(option.secondary_username))
        if option.secondary_username_editable:
            element.set("secondary_username_editable", "true")
        if option.without_credentials:
            element.set("noaaa", "1")

"""Speaks to PAM for one login, in a process of its own: modules may crash it or hang it.

Reads one line of JSON from standard input, {"user": ..., "peer": ...}; then, for each conversation
that a module wants, writes {"prompts": [[text, is_secret], ...], "texts": [...]} and reads
{"answers": [...]}. The last line is {"code": 0, "text": ..., "user": ..., "groups": [...]}.

Source: Linux-PAM, pam_conv(3), pam_start_confdir(3).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import grp
import json
import os
import pwd
import sys
from typing import Any

# From Linux-PAM: _pam_types.h
SUCCESS = 0
BUFFER_ERROR = 5
NEW_AUTHTOK_REQUIRED = 12
CONVERSATION_ERROR = 19
_PROMPT_ECHO_OFF = 1
_PROMPT_ECHO_ON = 2
_RHOST = 4
_USER = 2
_CHANGE_EXPIRED = 0x20

# Ours
MOST_PROMPTS = 16
LONGEST_LINE_BYTES = 256 * 1024


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_Converse = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)),
    ctypes.c_void_p,
)


class _Conversation(ctypes.Structure):
    _fields_ = (("converse", _Converse), ("data", ctypes.c_void_p))


_libc: Any = ctypes.CDLL(None)
_libc.calloc.restype = ctypes.c_void_p
_libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
_libc.strdup.restype = ctypes.c_void_p
_libc.strdup.argtypes = (ctypes.c_char_p,)


def main(service: str, directory: str) -> None:
    """One login: `service` names the file of rules, in `directory` or where the system has them."""
    os.setsid()  # whatever its modules start ends with it
    # Modules and what they start have other streams: what they print is no verdict
    sys.stdin, sys.stdout = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    login = _read()
    result = _Login(service, directory, login["user"], login["peer"]).run()
    _write(result)


class _Login:
    """One handle of PAM, from its start to its end."""

    def __init__(self, service: str, directory: str, user: str, peer: str) -> None:
        self._pam: Any = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
        self._pam.pam_strerror.restype = ctypes.c_char_p
        self._handle = ctypes.c_void_p()
        self._converse = _Converse(self._talk)  # kept alive as long as PAM may call it
        conversation = _Conversation(self._converse, None)
        self._conversation = conversation
        name, who = service.encode(), user.encode()
        handle = ctypes.byref(self._handle)
        if directory:
            self._code = self._pam.pam_start_confdir(
                name, who, ctypes.byref(conversation), directory.encode(), handle
            )
        else:
            self._code = self._pam.pam_start(name, who, ctypes.byref(conversation), handle)
        if self._code == SUCCESS:
            self._pam.pam_set_item(self._handle, _RHOST, ctypes.c_char_p(peer.encode()))

    def run(self) -> dict[str, Any]:
        """Who it is, or why nobody: PAM's code and text."""
        if self._code == SUCCESS:
            self._code = self._pam.pam_authenticate(self._handle, 0)
        if self._code == SUCCESS:
            self._code = self._pam.pam_acct_mgmt(self._handle, 0)
            if self._code == NEW_AUTHTOK_REQUIRED:
                self._code = self._pam.pam_chauthtok(self._handle, _CHANGE_EXPIRED)
        text = self._pam.pam_strerror(self._handle, self._code) or b""
        result: dict[str, Any] = {"code": self._code, "text": text.decode("utf-8", "replace")}
        if self._code == SUCCESS:
            name = self._user()
            result |= {"user": name, "groups": _groups(name)}
        self._pam.pam_end(self._handle, self._code)
        return result

    def _user(self) -> str:
        """The name in the end: modules may have mapped it to another."""
        found = ctypes.c_char_p()
        self._pam.pam_get_item(self._handle, _USER, ctypes.byref(found))
        return (found.value or b"").decode("utf-8", "replace")

    @staticmethod
    def _talk(count: int, messages: Any, responses: Any, _: Any) -> int:
        if not 0 < count <= MOST_PROMPTS:
            return CONVERSATION_ERROR
        prompts: list[tuple[int, str, bool]] = []
        texts: list[str] = []
        for number in range(count):
            message = messages[number].contents
            text = (message.text or b"").decode("utf-8", "replace")
            if message.style in (_PROMPT_ECHO_OFF, _PROMPT_ECHO_ON):
                prompts.append((number, text, message.style == _PROMPT_ECHO_OFF))
            else:
                texts.append(text)
        _write({"prompts": [[text, secret] for _, text, secret in prompts], "texts": texts})
        answers = _read()["answers"]
        if len(answers) != len(prompts):
            return CONVERSATION_ERROR
        made = _libc.calloc(count, ctypes.sizeof(_Response))
        if not made:
            return BUFFER_ERROR
        given = ctypes.cast(made, ctypes.POINTER(_Response))
        for (number, _text, _secret), answer in zip(prompts, answers, strict=True):
            given[number].text = _libc.strdup(answer.encode())
        responses[0] = given
        return SUCCESS


def _groups(name: str) -> list[str]:
    try:
        user = pwd.getpwnam(name)
        numbers = os.getgrouplist(name, user.pw_gid)
        return [grp.getgrgid(each).gr_name for each in numbers]
    except KeyError:
        return []  # PAM may know users that the system does not


def _read() -> Any:
    line = sys.stdin.buffer.readline(LONGEST_LINE_BYTES)
    if not line:
        raise SystemExit("nobody waits for this login any more")
    return json.loads(line)


def _write(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:3])

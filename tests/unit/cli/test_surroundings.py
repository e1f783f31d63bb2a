"""The tool works from bare terminals: without a locale, a user's name, an account."""

from __future__ import annotations

import getpass
import os
import pwd

import pytest

from dpp import cli


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Collect locale and user that a command finds; the terminal says nothing of either."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(cli, "app", lambda **_: found.append((os.environ["LC_ALL"], getpass.getuser())))
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    for name in ("USER", "LOGNAME", "LC_ALL"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    return found


def no_account(number: int) -> None:
    raise KeyError(number)


@pytest.mark.parametrize("locale", [None, "C", "xx_XX.UTF-8"])
def test_every_locale_will_do(locale: str | None, seen: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    if locale:
        monkeypatch.setenv("LC_ALL", locale)
    assert cli.main() == cli.DONE
    assert seen == [("C.UTF-8", pwd.getpwuid(os.getuid()).pw_name)]


def test_a_user_id_without_an_account_has_a_name(seen: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", no_account)
    assert cli.main() == cli.DONE
    assert seen == [("C.UTF-8", f"uid{os.getuid()}")]


def test_without_a_home_it_says_so(
    seen: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", no_account)
    monkeypatch.delenv("HOME")
    assert cli.main() == cli.USAGE
    assert seen == []
    assert "HOME: not set, and uid" in capsys.readouterr().err

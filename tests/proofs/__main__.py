"""``python -m proofs test|prove|owed``, as make calls it."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from proofs.catalogue import Catalogue, Ground, Proof, Tree
from proofs.records import End, Owed, Records, statement

_PENDING, _TERMINATED = 3, 143


def main() -> int:
    """Run one verb and return the exit code: 0 done, 1 failed, 2 usage, 3 something is owed."""
    parser = argparse.ArgumentParser(prog="proofs", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("test", help="what proves every change, then what is owed and cheap")
    prove = verbs.add_parser("prove", help="run the proofs named, else all that are owed")
    prove.add_argument("id", nargs="*")
    prove.add_argument("--ground", action="append", default=[], choices=[*Ground], help="only those that stand on it")
    verbs.add_parser("owed", help="say what is owed").add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # what was started ends as well
    if options.verb == "test":
        from proofs.gate import Gate, new_folder

        return Gate(new_folder()).run()
    return _prove(options.id, options.ground) if options.verb == "prove" else _owed(as_json=options.json)


def _all_owed() -> list[Owed]:
    return Records().owed(Catalogue.load(), Tree())


def chosen(names: list[str], grounds: list[str]) -> list[Proof]:
    """Return the proofs of these names, else those that are owed; only of some grounds, where any are named."""
    proofs = Catalogue.load().find(names) if names else [owed.proof for owed in _all_owed()]
    return [proof for proof in proofs if not grounds or proof.ground in grounds]


def _prove(names: list[str], grounds: list[str]) -> int:
    from proofs.gate import make_ground, new_folder
    from proofs.proving import Prover

    proofs = chosen(names, grounds)
    if not make_ground():
        return 1
    folder, ends = new_folder(), []
    for outcome in Prover(folder, side_by_side=True).run(proofs):
        print(outcome, flush=True)
        ends.append(outcome.end)
    print("\n".join([f"logs: {folder}", *statement(_all_owed())]))
    print(f"{len(ends) - ends.count(End.RED) - ends.count(None)} passed, {ends.count(End.RED)} failed")
    return 1 if End.RED in ends else 0


def _owed(*, as_json: bool) -> int:
    owed = _all_owed()
    print(json.dumps([one.as_row() for one in owed], indent=1) if as_json else "\n".join(statement(owed)))
    return _PENDING if owed else 0


if __name__ == "__main__":
    raise SystemExit(main())

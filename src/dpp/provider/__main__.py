"""Run the provider: ``pulumi-resource-dpp ENGINE_ADDRESS``, as engines start it."""

import argparse
import asyncio
import contextlib

from dpp.provider.server import serve

parser = argparse.ArgumentParser(prog="pulumi-resource-dpp", description="Resource provider dpp.")
parser.add_argument("engine", help="address of the engine that starts this provider")
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(serve(parser.parse_known_args()[0].engine))

"""Run the provider: ``pulumi-resource-dpp ENGINE_ADDRESS``, as engines start it; it prints its port."""

import argparse
import signal

from dpp.adapters.orphans import end, end_with_parent
from dpp.provider.server import Provider, start

parser = argparse.ArgumentParser(prog="pulumi-resource-dpp", description="Resource provider dpp.")
parser.add_argument("engine", help="address of the engine that starts this provider")
end_with_parent()
signal.signal(signal.SIGINT, lambda *_: end(0))
server, port = start(Provider(parser.parse_known_args()[0].engine))
print(port, flush=True)
server.wait_for_termination()

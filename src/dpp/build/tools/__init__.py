"""The programs that the observatory runs on and that no Debian package holds: pinned, built from registries, cached.

Go programs are built from their modules (one folder with go.mod and go.sum each), Apache Kafka is assembled from Maven
artifacts. A built tool is one folder of the cache, named by version and digest of everything it was made from.
"""

from dpp.build.tools.catalogue import TOOLS, GoTool, MavenTool, Tool, tool, tool_folder

__all__ = ["TOOLS", "GoTool", "MavenTool", "Tool", "tool", "tool_folder"]

"""Bring the platform's images to a site's registry."""

import sys

from dpp.lab.image import BaseImage
from dpp.lab.platform_images import PlatformImages
from dpp.lab.progress import Reporter
from dpp.model.folders import Folders

reporter = Reporter(quiet=True)
PlatformImages(Folders.current(), BaseImage(reporter).ensure(), reporter).seed(sys.argv[1])

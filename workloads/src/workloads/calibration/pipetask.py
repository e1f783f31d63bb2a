"""Stock ``pipetask``, its processes forked from one that has imported everything: a quantum takes less than the imports."""

from __future__ import annotations

import multiprocessing

from lsst.ctrl.mpexec.cli.pipetask import main

PRELOADED = (
    "lsst.ctrl.mpexec.cli.pipetask",
    "lsst.daf.butler.datastores.fileDatastore",
    "lsst.daf.butler.delegates.arrowtable",
    "lsst.daf.butler.direct_butler",
    "lsst.daf.butler.formatters.logs",
    "lsst.daf.butler.formatters.parquet",
    "lsst.daf.butler.queries.overlaps",
    "lsst.daf.butler.registry.collections.synthIntKey",
    "lsst.daf.butler.registry.datasets.byDimensions",
    "lsst.daf.butler.registry.dimensions.static",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "workloads.calibration.tasks",
    "workloads.data_backbone.formatters",
)
"""What a quantum imports before and while it runs. One that is missing here, or has another name, costs each quantum its import."""

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    main()

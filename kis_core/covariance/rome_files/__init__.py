"""Second moments in the files of ROME, MEMIT and EasyEdit: written for them to read, and checked when read.

One `.npz` a layer holds `mom2.mom2`, the **sum** of k kᵀ over tokens, `mom2.count`, their number, `mom2.constructor`,
and `sample_size`, the number of documents (kmeng01/rome, `rome/layer_stats.py` and `util/runningstats.py`). What is
written here also has its origin in `kis.provenance`, which the others ignore. Nothing is ever unpickled.
"""

from kis_core.covariance.rome_files.archive import StatisticsError
from kis_core.covariance.rome_files.files import Header, Statistic, header, layer_of, module_in, path_for, read, write
from kis_core.covariance.rome_files.folder import Statistics, recognises

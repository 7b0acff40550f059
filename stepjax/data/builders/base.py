"""Base of the builders of public datasets: they download, read with stepjax's readers, and write its schema.

`tfds` finds a builder by its module, which must live in a package of the builder's name:

    import tensorflow_datasets as tfds
    from stepjax.data.builders.gsm8k_steps.gsm8k_steps_dataset_builder import Builder

    builder = Builder(data_dir="data", file_format="array_record")
    builder.download_and_prepare()
    builder.as_data_source("train")

Without a network, put the files that `FILES` names under `…/downloads/manual/<builder's name>/`. TFDS's own writer
shuffles and holds what it writes; for files of many gigabytes `stepjax data` needs less memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from stepjax.config import DataOptions
from stepjax.data.features import features, to_row
from stepjax.data.readers import read_records
from stepjax.data.readers.base import Tally


class StepDatasetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A public dataset in stepjax's schema.

    Attributes:
      SOURCE: the reader's name.
      HOMEPAGE: address of the original's description.
      FILES: address of each file of each split.
      OPTIONS: options of the reader.
    """

    VERSION = tfds.core.Version("1.0.0")
    SOURCE: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    FILES: ClassVar[dict[str, dict[str, str]]]
    OPTIONS: ClassVar[dict[str, Any]] = {}

    # No checksums are recorded. TFDS would look for their file with importlib_resources, which it does not require.
    url_infos: ClassVar[dict[str, Any]] = {}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=f"{self.SOURCE} in stepjax's schema: problem, steps, a label per step, provenance.",
            features=features(),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(self._paths(dl_manager, files)) for split, files in self.FILES.items()}

    def _paths(self, dl_manager: tfds.download.DownloadManager, files: dict[str, str]) -> list[Path]:
        """The files of the manual folder if all of them are there, else downloads."""
        by_hand = Path(dl_manager._manual_dir or "") / self.name  # `manual_dir` itself raises where there is none
        given = [by_hand / name for name in files]
        if all(path.is_file() for path in given):
            return given
        return [Path(path) for path in dl_manager.download(list(files.values()))]

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, path in enumerate(paths):
            options = DataOptions(source=self.SOURCE, path=str(path), **self.OPTIONS)
            for i, record in enumerate(read_records(options, Tally())):
                yield f"{number:03}_{i:09}", to_row(record)

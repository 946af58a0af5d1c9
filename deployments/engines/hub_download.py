"""The download of a checkpoint from the Hub: the files that loading needs, and the progress."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

log = logging.getLogger(__name__)

Report = Callable[[str], None]

REPORT_S = 0.5
CHUNK_BYTES = 1 << 20  # the Hub's client counts each chunk; its own are of 10 MiB
FILES_AT_ONCE = 8  # as many as transformers downloads at once
LIST_S = 30.0
# Other folders than those of sentence-transformers and of chat templates hold weights in other formats.
FOLDER = re.compile(r"\.|\d+_\w+|additional_chat_templates")
TEXTS = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab"}
SHARD = r"-\d+-of-\d+"
UNITS = {1e9: "GB", 1e6: "MB", 1e3: "kB"}


def download(
    name: str, revision: str | None, report: Report, *, pickle: bool = False, code: bool = False
) -> None:
    """Download the files that loading needs and the cache lacks, and report the progress in words.

    `pickle` and `code` are `Checkpoint.pickle` and `Checkpoint.trust_remote_code`. Raises the Hub's errors.
    """
    from huggingface_hub import constants, hf_hub_download

    sizes = _missing(name, revision, pickle, code)
    if not sizes:
        return
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    progress = _Progress(sum(sizes.values()), report)
    bar = _bar_of(progress)

    def fetch(path: str) -> None:
        hf_hub_download(name, path, revision=revision, tqdm_class=bar)

    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        downloads = [threads.submit(fetch, path) for path in sizes]
        try:
            for one in downloads:
                one.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def needed_files(paths: Sequence[str], *, pickle: bool = False, code: bool = False) -> list[str]:
    """Return the files that transformers loads, of all `paths` in a checkpoint."""
    texts = TEXTS | {".py"} if code else TEXTS
    files = [PurePosixPath(path) for path in paths]
    by_folder: dict[str, set[str]] = {}
    for file in files:
        by_folder.setdefault(str(file.parent), set()).add(file.name)
    return [
        str(file)
        for file in files
        if FOLDER.fullmatch(str(file.parent))
        and (file.suffix in texts or _is_weights(file.name, by_folder[str(file.parent)], pickle))
    ]


def _is_weights(file: str, folder: set[str], pickle: bool) -> bool:
    """Return whether transformers loads this file: it prefers safetensors, and one file to shards."""
    stem, suffix = "model", ".safetensors"
    if pickle and not folder & {"model.safetensors", "model.safetensors.index.json"}:
        stem, suffix = "pytorch_model", ".bin"
    if stem + suffix in folder:
        return file == stem + suffix
    return re.fullmatch(stem + SHARD + re.escape(suffix), file) is not None


def _missing(name: str, revision: str | None, pickle: bool, code: bool) -> dict[str, int]:
    """Return the sizes of the needed files that the cache lacks, by path; none if the Hub gives no list."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=LIST_S)
    except Exception as error:  # a mirror may have no lists; the load downloads too, and explains failures
        log.warning("the Hub gives no list of the files of %r: %s", name, type(error).__name__)
        return {}
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
    needed = needed_files(list(sizes), pickle=pickle, code=code)
    return {
        path: sizes[path]
        for path in needed
        if not isinstance(try_to_load_from_cache(name, path, revision=info.sha), str)
    }


class _Progress:
    """Counts the bytes of all files, and reports them twice a second."""

    def __init__(self, total: int, report: Report) -> None:
        self._total, self._report = total, report
        self._done, self._reported = 0.0, 0.0
        self._lock = Lock()
        self.add(0)

    def add(self, size: float) -> None:
        """Count bytes that have arrived; fewer than none if the client starts a file again."""
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._reported < REPORT_S:
                return
            self._reported = now
            self._report(f"downloading {progress_text(self._done, self._total)}")


def progress_text(done: float, total: float) -> str:
    """Return "1.2 of 3.4 GB"."""
    scale, unit = next(((scale, unit) for scale, unit in UNITS.items() if total >= scale), (1e3, "kB"))
    return f"{min(done, total) / scale:.1f} of {total / scale:.1f} {unit}"


def _bar_of(progress: _Progress) -> Any:
    """Return a class for `tqdm_class` of the Hub's client: a progress bar that is not drawn."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that refreshes it

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            progress.add(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            progress.add(n or 0)

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignore the bytes on the network: the client reports them beside those of the files."""

    return Bar

"""Measure images: photographs of a megabyte through the gateway, against the same module called directly."""

from benchmarks import efficiency, harness, workload

TITLE = "Images: photographs of a megabyte"
CASE = efficiency.Case("images", clients=(1, 16))


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Measure images per second: decoding, scaling and a classifier as large as ResNet-18."""
    runs, _ = efficiency.measure_case(bench, findings, CASE, "", "images/s")
    shares = {f"{n} clients": efficiency.share(runs, n) for n in CASE.clients}
    for name, share in shares.items():
        findings.add(f"{name} / in-process, pictures/s", share)
    files = workload.photographs(workload.COUNTS["images"])
    size = sum(map(len, files)) / len(files) / 1e6
    findings.notes.append(f"JPEGs of 1600 by 1200 pixels, {size:.2f} MB each, sent without re-encoding.")
    title, lines = (
        "Images per second through the gateway",
        [(name, one.value) for name, one in shares.items()],
    )
    findings.plot = harness.Plot(title, "", "of those in-process", {"gateway": lines}, {"in-process": 1.0})

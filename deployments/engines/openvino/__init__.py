"""The engine OpenVINO: networks compiled for processors, with its paged attention in place of their own."""

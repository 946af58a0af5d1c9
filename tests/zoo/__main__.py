"""Write docs/architectures.md: every family, with every engine, in every dtype; ten minutes."""

import transformers

from tests.zoo.page import PAGE, page

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

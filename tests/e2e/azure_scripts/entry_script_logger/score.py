"""Uses the logger and the folders of EntryScript."""

import os

from azureml_user.parallel_run import EntryScript


def init():
    entry_script = EntryScript()
    entry_script.logger.info("init() runs in %s on %s", entry_script.working_dir, entry_script.agent_name)
    with open(os.path.join(entry_script.log_dir, "mine.log"), "a") as file:
        file.write("begun\n")


def run(mini_batch):
    logger = EntryScript().logger
    logger.debug("%d items", len(mini_batch))
    assert EntryScript().output_dir == os.environ["AZUREML_BI_OUTPUT_PATH"]
    return [open(path).read()[::-1] for path in mini_batch]

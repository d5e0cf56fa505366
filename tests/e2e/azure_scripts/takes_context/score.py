"""Takes the context of its mini-batch, for a name that no other mini-batch has."""

import os


def run(mini_batch, mini_batch_context):
    name = f"part-{mini_batch_context.minibatch_index}"
    assert mini_batch_context.partition_key_value == {} or mini_batch_context.partition_key_value is None
    folder = os.environ["AZUREML_BI_OUTPUT_PATH"]
    path = os.path.join(folder, name)
    assert not os.path.exists(path)
    with open(path, "w") as file:
        file.writelines(open(each).read() + "\n" for each in mini_batch)
    return mini_batch

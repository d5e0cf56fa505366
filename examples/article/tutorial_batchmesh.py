"""The tutorial of batch inference with ParallelRunStep, from its first import to the end of its run.

It is tutorial.py line by line, but for its imports: `python tutorial_batchmesh.py` runs it.
"""

import argparse
import os

from batchmesh import (
    DEFAULT_GPU_IMAGE,
    AmlCompute,
    ComputeTarget,
    ComputeTargetException,
    CondaDependencies,
    Dataset,
    Datastore,
    Environment,
    Experiment,
    Model,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    RunDetails,
    Workspace,
)

parser = argparse.ArgumentParser()
parser.add_argument("--images", help="a local folder of images, instead of the container")
parser.add_argument("--python", help="an interpreter with what the script imports, instead of an environment")
given = parser.parse_args()

# The workspace, and where the images lie.
ws = Workspace.from_config()
if given.images:
    mnist_data = Datastore.register_local(ws, "mnist_datastore", given.images, overwrite=True)
    images = mnist_data.path("")
else:
    mnist_data = Datastore.register_azure_blob_container(
        ws,
        datastore_name="mnist_datastore",
        container_name="sampledata",
        account_name="devstoreaccount1",
        overwrite=True,
    )
    images = mnist_data.path("mnist/")
def_data_store = ws.get_default_datastore()

# What goes in, and where what comes out lies.
mnist_ds = Dataset.File.from_files(path=images, validate=False)
registered_mnist_ds = mnist_ds.register(ws, "mnist_sample_data", create_new_version=True)
named_mnist_ds = registered_mnist_ds.as_named_input("mnist")
output_dir = PipelineData(name="inferences", datastore=def_data_store, output_path_on_compute="mnist/results")

# Where it runs.
compute_name = os.environ.get("COMPUTE_CLUSTER_NAME", "gpu-cluster")
if compute_name in ws.compute_targets:
    compute_target = ws.compute_targets[compute_name]
    if compute_target and type(compute_target) is AmlCompute:
        print("found a compute target, which is used:", compute_name)
else:
    print("creating a compute target …")
    config = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", min_nodes=0, max_nodes=1)
    try:
        compute_target = ComputeTarget.create(ws, compute_name, config)
    except ComputeTargetException as error:
        raise SystemExit(f"there is no compute target to be had: {error}") from None
    compute_target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    print(compute_target.get_status().serialize())

# The model that the script asks for by its name.
model = Model.register(
    model_path="models/",
    model_name="digits",
    tags={"data": "digits", "model": "classification"},
    description="A classifier of handwritten digits, as ONNX",
    workspace=ws,
)

# What the script imports.
batch_env = Environment(name="batch_environment")
if given.python:
    batch_env.python.user_managed_dependencies = True
    batch_env.python.interpreter_path = given.python
else:
    batch_env.python.conda_dependencies = CondaDependencies.create(pip_packages=["onnxruntime", "numpy", "pillow"])
batch_env.docker.enabled = True
batch_env.docker.base_image = DEFAULT_GPU_IMAGE
batch_env.spark.precache_packages = False

# The step, the pipeline, the run.
parallel_run_config = ParallelRunConfig(
    source_directory="code",
    entry_script="digit_identification.py",
    mini_batch_size="5",
    error_threshold=10,
    output_action="append_row",
    environment=batch_env,
    compute_target=compute_target,
    node_count=1,
)
parallelrun_step = ParallelRunStep(
    name="batch-mnist",
    models=[model],
    parallel_run_config=parallel_run_config,
    inputs=[named_mnist_ds],
    output=output_dir,
    arguments=[],
    allow_reuse=True,
)
pipeline = Pipeline(workspace=ws, steps=[parallelrun_step])
pipeline_run = Experiment(ws, "digit_identification").submit(pipeline)
RunDetails(pipeline_run).show()
pipeline_run.wait_for_completion(show_output=True)

# The result.
batch_run = next(pipeline_run.get_children())
batch_output = batch_run.get_output_data("inferences")
batch_output.download(local_path="inference_results")
for folder, _, names in os.walk("inference_results"):
    for name in names:
        if name == "parallel_run_step.txt":
            with open(os.path.join(folder, name)) as lines:
                print(*lines.readlines()[:5], sep="", end="")

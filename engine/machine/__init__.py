"""What is installed on this machine: the CPU's instruction sets, CUDA's and TensorRT's libraries."""

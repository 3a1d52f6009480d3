// The operator as ONNX Runtime sees it. No exception leaves this file.
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "ort_api.h"
#include "paths.h"
#include "runner.h"

namespace fastspan {
namespace {

constexpr char kDomain[] = "fastspan";
constexpr char kThreadsKey[] = "fastspan.kernel_threads";
constexpr char kPathKey[] = "fastspan.kernel_path";

// A failed call into ONNX Runtime, on its way to the caller.
struct Failed {
  ort::Status* status;
};

void check(ort::Status* status) {
  if (status != nullptr) throw Failed{status};
}

// Whatever body throws becomes a status.
template <class Body>
ort::Status* guarded(const ort::Api& api, Body body) noexcept {
  try {
    const std::string problem = body();
    return problem.empty() ? nullptr : api.create_status(ort::kInvalidArgument, ("fastspan: " + problem).c_str());
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const std::exception& error) {
    return api.create_status(ort::kFail, error.what());
  } catch (...) {
    return api.create_status(ort::kFail, "fastspan: an unknown failure");
  }
}

Tensor describe(const ort::Api& api, const ort::Value* value) {
  Tensor tensor;
  ort::Shape* shape = nullptr;
  check(api.shape_of(value, &shape));
  int type = 0;
  size_t rank = 0;
  ort::Status* status = api.element_type(shape, &type);
  if (status == nullptr) status = api.dimension_count(shape, &rank);
  if (status == nullptr) {
    tensor.shape.resize(rank);
    status = api.dimensions(shape, tensor.shape.data(), rank);
  }
  api.release(shape);
  check(status);
  tensor.type = type == ort::kFloat ? Type::kFloat : type == ort::kInt8 ? Type::kInt8 : Type::kOther;
  void* data = nullptr;
  check(api.data(const_cast<ort::Value*>(value), &data));
  tensor.data = data;
  return tensor;
}

// An attribute that may be missing keeps its default.
template <class T>
void read(const ort::Api& api, const ort::Info* info, const char* name, T& value) {
  T stored = value;
  if (ort::Status* status = api.attribute(info, name, &stored); status != nullptr) {
    api.release(status);
  } else {
    value = stored;
  }
}

void read(const ort::Api& api, const ort::Info* info, const char* name, std::string& value) {
  char stored[64];
  size_t size = sizeof stored;
  if (ort::Status* status = api.attribute(info, name, stored, &size); status != nullptr) {
    api.release(status);
  } else {
    value.assign(stored);
  }
}

struct Operator : ort::CustomOp {
  const Path* path;
  int threads;
};

struct Kernel {
  const ort::Api& api;
  Runner runner;
};

std::string load(const ort::Api& api, const ort::Info* info, Runner& runner) {
  Attributes a;
  read(api, info, "heads", a.heads);
  read(api, info, "layers", a.layers);
  read(api, info, "padding_id", a.padding_id);
  read(api, info, "segments", a.segments);
  read(api, info, "asymmetric", a.asymmetric);
  read(api, info, "prescaled", a.prescaled);
  read(api, info, "epsilon", a.epsilon);
  read(api, info, "activation", a.activation);
  size_t count = 0;
  check(api.input_count(info, &count));
  std::vector<Tensor> tensors;
  for (size_t i = a.segments == 1 ? 3 : 2; i < count; ++i) {
    int constant = 0;
    const ort::Value* value = nullptr;
    check(api.constant_input(info, i, &constant, &value));
    if (constant == 0 || value == nullptr) return "input " + std::to_string(i) + " is not an initializer";
    tensors.push_back(describe(api, value));
  }
  return runner.load(a, tensors);
}

ort::Status* create(const ort::CustomOp* op, const ort::Api* api, const ort::Info* info, void** out) {
  const Operator& self = *static_cast<const Operator*>(op);
  return guarded(*api, [&]() -> std::string {
    auto kernel = std::unique_ptr<Kernel>(new Kernel{*api, {*self.path, self.threads}});
    std::string problem = load(*api, info, kernel->runner);
    if (problem.empty()) *out = kernel.release();
    return problem;
  });
}

const int32_t* indices(const ort::Api& api, const ort::Context* context, size_t index, const char* name, int64_t* size,
                       std::string& problem) {
  const ort::Value* value = nullptr;
  check(api.input(context, index, &value));
  if (value == nullptr) {
    problem = std::string(name) + " is missing";
    return nullptr;
  }
  ort::Shape* shape = nullptr;
  check(api.shape_of(value, &shape));
  int type = 0;
  size_t rank = 0;
  ort::Status* status = api.element_type(shape, &type);
  if (status == nullptr) status = api.dimension_count(shape, &rank);
  if (status == nullptr && rank == 1) status = api.dimensions(shape, size, 1);
  api.release(shape);
  check(status);
  if (type != ort::kInt32 || rank != 1) {
    problem = std::string(name) + " must be int32 of one dimension";
    return nullptr;
  }
  void* data = nullptr;
  check(api.data(const_cast<ort::Value*>(value), &data));
  return static_cast<const int32_t*>(data);
}

float* logits(const ort::Api& api, ort::Context* context, size_t index, int64_t rows) {
  ort::Value* value = nullptr;
  check(api.output(context, index, &rows, 1, &value));
  void* data = nullptr;
  check(api.data(value, &data));
  return static_cast<float*>(data);
}

struct Pool {
  const ort::Api& api;
  ort::Context* context;
};

bool on_pool(void* data, void (*body)(void*, size_t), size_t threads, void* run) {
  const Pool& pool = *static_cast<const Pool*>(data);
  ort::Status* status = pool.api.parallel_for(pool.context, body, threads, 0, run);
  if (status != nullptr) pool.api.release(status);
  return status == nullptr;
}

ort::Status* compute(void* data, ort::Context* context) {
  Kernel& kernel = *static_cast<Kernel*>(data);
  const ort::Api& api = kernel.api;
  return guarded(api, [&]() -> std::string {
    RunInput in;
    std::string problem;
    int64_t ends = 0, types = 0;
    in.ids = indices(api, context, 0, "input_ids", &in.rows, problem);
    if (problem.empty()) in.ends = indices(api, context, 1, "cumulative_sequence_length", &ends, problem);
    if (problem.empty() && kernel.runner.takes_types()) {
      in.types = indices(api, context, 2, "token_type_ids", &types, problem);
      if (problem.empty() && types != in.rows) problem = "token_type_ids must have as many rows as input_ids";
    }
    if (problem.empty() && ends < 1) problem = "cumulative_sequence_length must not be empty";
    if (!problem.empty()) return problem;
    in.windows = ends - 1;
    in.deadline = deadline_of_this_thread();
    in.thread_limit = thread_limit_of_this_thread();
    in.start_logits = logits(api, context, 0, in.rows);
    in.end_logits = logits(api, context, 1, in.rows);
    Pool pool{api, context};
    return kernel.runner.run(in, on_pool, &pool);
  });
}

std::unique_ptr<Operator> make_operator(const Path* path, int threads) {
  auto op = std::make_unique<Operator>();
  std::memset(static_cast<ort::CustomOp*>(op.get()), 0, sizeof(ort::CustomOp));
  op->path = path;
  op->threads = threads;
  op->version = ort::kVersion;
  op->name = [](const ort::CustomOp*) { return "Int8Encoder"; };
  op->provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
  // One input of any number and types: what they must be is checked when the kernel is made.
  op->input_types = [](const ort::CustomOp*) { return size_t{1}; };
  op->input_type = [](const ort::CustomOp*, size_t) { return 0; };
  op->input_characteristic = [](const ort::CustomOp*, size_t) { return int{ort::kVariadic}; };
  op->input_memory = [](const ort::CustomOp*, size_t) { return 0; };
  op->variadic_inputs = [](const ort::CustomOp*) { return 2; };
  op->inputs_of_one_type = [](const ort::CustomOp*) { return 0; };
  op->output_types = [](const ort::CustomOp*) { return size_t{2}; };
  op->output_type = [](const ort::CustomOp*, size_t) { return int{ort::kFloat}; };
  op->output_characteristic = [](const ort::CustomOp*, size_t) { return int{ort::kRequired}; };
  op->variadic_outputs = [](const ort::CustomOp*) { return 0; };
  op->outputs_of_one_type = [](const ort::CustomOp*) { return 1; };
  op->create_or_fail = create;
  op->compute_or_fail = compute;
  op->destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op->first_version = [](const ort::CustomOp*) { return 1; };
  op->last_version = [](const ort::CustomOp*) { return 1; };
  return op;
}

// Sessions keep bare pointers to a domain and its operator and do not say when they end. So one is kept for each
// path and number of threads that was ever asked for, until the process ends.
ort::Domain* domain_for(const ort::Api& api, const Path* path, int threads) {
  static std::mutex mutex;
  static auto& kept = *new std::map<std::pair<const Path*, int>, std::pair<std::unique_ptr<Operator>, ort::Domain*>>;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& entry = kept[{path, threads}];
  if (entry.second == nullptr) {
    auto op = make_operator(path, threads);
    ort::Domain* domain = nullptr;
    check(api.create_domain(kDomain, &domain));
    check(api.add_operator(domain, static_cast<const ort::CustomOp*>(op.get())));
    entry = {std::move(op), domain};
  }
  return entry.second;
}

std::string config_entry(const ort::Api& api, const ort::Options* options, const char* key) {
  int has = 0;
  check(api.has_config_entry(options, key, &has));
  if (has == 0) return "";
  char value[64] = {};
  size_t size = sizeof value;
  check(api.config_entry(options, key, value, &size));
  return value;
}

constexpr int kMostThreads = 256;

int threads_for(const std::string& asked) {
  int threads = asked.empty() ? static_cast<int>(std::thread::hardware_concurrency()) : std::atoi(asked.c_str());
  if (threads < 1) threads = 1;
  return threads > kMostThreads ? kMostThreads : threads;
}

}  // namespace
}  // namespace fastspan

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(ort::Options* options,
                                                                                const ort::ApiBase* base) {
  using namespace fastspan;
  const ort::Api* api = base->get_api(ort::kVersion);
  if (api == nullptr) {
    // Version 1 of the table is always there, and its first entry makes a status.
    return base->get_api(1)->create_status(ort::kFail, "fastspan: this ONNX Runtime is older than 1.17");
  }
  return guarded(*api, [&]() -> std::string {
    const Path* path = find_path(config_entry(*api, options, kPathKey).c_str());
    if (path == nullptr) return "there is no such path, or this CPU cannot run it";
    const int threads = threads_for(config_entry(*api, options, kThreadsKey));
    check(api->add_domain(options, domain_for(*api, path, threads)));
    return "";
  });
}

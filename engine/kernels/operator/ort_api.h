// What this library uses of ONNX Runtime's C interface.
//
// The wheels carry no headers. The interface is a table of function pointers that only ever grows at its end, so an
// entry is known by its place. The places were read off the public onnxruntime_c_api.h; those up to 274 exist
// since version 17 (ONNX Runtime 1.17), which is what this library asks for.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t kVersion = 17;

struct Api;
struct Context;      // OrtKernelContext
struct Info;         // OrtKernelInfo
struct Options;      // OrtSessionOptions
struct Shape;        // OrtTensorTypeAndShapeInfo
struct Status;       // OrtStatus; nullptr is success
struct Value;        // OrtValue
struct Domain;       // OrtCustomOpDomain

enum ErrorCode { kFail = 1, kInvalidArgument = 2 };
enum ElementType { kFloat = 1, kInt8 = 3, kInt32 = 6 };
enum Characteristic { kRequired = 0, kOptional = 1, kVariadic = 2 };

struct ApiBase {
  const Api* (*get_api)(uint32_t version) noexcept;
  const char* (*get_version_string)() noexcept;
};

// The table, by place. Each accessor casts the pointer at that place to its type.
struct Api {
  using Entry = void (*)();
  Entry entries[275];

  template <class F>
  F at(size_t place) const {
    return reinterpret_cast<F>(entries[place]);
  }

  Status* create_status(ErrorCode code, const char* message) const {
    return at<Status* (*)(int, const char*)>(0)(code, message);
  }
  Status* create_domain(const char* name, Domain** out) const {
    return at<Status* (*)(const char*, Domain**)>(26)(name, out);
  }
  Status* add_operator(Domain* domain, const void* op) const {
    return at<Status* (*)(Domain*, const void*)>(27)(domain, op);
  }
  Status* add_domain(Options* options, Domain* domain) const {
    return at<Status* (*)(Options*, Domain*)>(28)(options, domain);
  }
  Status* data(Value* value, void** out) const { return at<Status* (*)(Value*, void**)>(51)(value, out); }
  Status* element_type(const Shape* shape, int* out) const {
    return at<Status* (*)(const Shape*, int*)>(60)(shape, out);
  }
  Status* dimension_count(const Shape* shape, size_t* out) const {
    return at<Status* (*)(const Shape*, size_t*)>(61)(shape, out);
  }
  Status* dimensions(const Shape* shape, int64_t* out, size_t count) const {
    return at<Status* (*)(const Shape*, int64_t*, size_t)>(62)(shape, out, count);
  }
  Status* shape_of(const Value* value, Shape** out) const {
    return at<Status* (*)(const Value*, Shape**)>(65)(value, out);
  }
  Status* attribute(const Info* info, const char* name, float* out) const {
    return at<Status* (*)(const Info*, const char*, float*)>(85)(info, name, out);
  }
  Status* attribute(const Info* info, const char* name, int64_t* out) const {
    return at<Status* (*)(const Info*, const char*, int64_t*)>(86)(info, name, out);
  }
  Status* attribute(const Info* info, const char* name, char* out, size_t* size) const {
    return at<Status* (*)(const Info*, const char*, char*, size_t*)>(87)(info, name, out, size);
  }
  Status* input_count(const Context* context, size_t* out) const {
    return at<Status* (*)(const Context*, size_t*)>(88)(context, out);
  }
  Status* input(const Context* context, size_t index, const Value** out) const {
    return at<Status* (*)(const Context*, size_t, const Value**)>(90)(context, index, out);
  }
  Status* output(Context* context, size_t index, const int64_t* dims, size_t count, Value** out) const {
    return at<Status* (*)(Context*, size_t, const int64_t*, size_t, Value**)>(91)(context, index, dims, count, out);
  }
  void release(Status* status) const { at<void (*)(Status*)>(93)(status); }
  void release(Shape* shape) const { at<void (*)(Shape*)>(99)(shape); }
  Status* input_count(const Info* info, size_t* out) const {
    return at<Status* (*)(const Info*, size_t*)>(230)(info, out);
  }
  Status* has_config_entry(const Options* options, const char* key, int* out) const {
    return at<Status* (*)(const Options*, const char*, int*)>(237)(options, key, out);
  }
  Status* config_entry(const Options* options, const char* key, char* out, size_t* size) const {
    return at<Status* (*)(const Options*, const char*, char*, size_t*)>(238)(options, key, out, size);
  }
  Status* constant_input(const Info* info, size_t index, int* is_constant, const Value** out) const {
    return at<Status* (*)(const Info*, size_t, int*, const Value**)>(249)(info, index, is_constant, out);
  }
  Status* parallel_for(const Context* context, void (*fn)(void*, size_t), size_t total, size_t batches,
                       void* data) const {
    return at<Status* (*)(const Context*, void (*)(void*, size_t), size_t, size_t, void*)>(274)(context, fn, total,
                                                                                              batches, data);
  }
};

// OrtCustomOp as of version 17: what ONNX Runtime asks an operator, in this order.
struct CustomOp {
  uint32_t version;
  void* (*create)(const CustomOp*, const Api*, const Info*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  int (*input_type)(const CustomOp*, size_t);
  size_t (*input_types)(const CustomOp*);
  int (*output_type)(const CustomOp*, size_t);
  size_t (*output_types)(const CustomOp*);
  void (*compute)(void*, Context*);
  void (*destroy)(void*);
  int (*input_characteristic)(const CustomOp*, size_t);
  int (*output_characteristic)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic_inputs)(const CustomOp*);
  int (*inputs_of_one_type)(const CustomOp*);
  int (*variadic_outputs)(const CustomOp*);
  int (*outputs_of_one_type)(const CustomOp*);
  Status* (*create_or_fail)(const CustomOp*, const Api*, const Info*, void**);
  Status* (*compute_or_fail)(void*, Context*);
  Status* (*infer_shapes)(const CustomOp*, void*);
  int (*first_version)(const CustomOp*);
  int (*last_version)(const CustomOp*);
};

}  // namespace ort

// The encoder as the kernels see it: packed weights, one run's input, and what a path offers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastspan {

constexpr int kWidth = 64;        // sizes and groups are multiples of it, and keys are filled up to one
constexpr int kSummed = 512;      // keys whose values are summed in integers: 4095 · 511 · 512 < 2³¹, so it is exact
constexpr int kLongest = 65536;   // tokens of a window: sums of its probabilities, of 4095 at most, stay below 2³¹
constexpr int kRowPadding = 32;   // rows of codes that may be read behind the last one

enum class Activation { kGelu, kGeluTanh, kRelu };

struct Linear {
  int in = 0, out = 0, group = 0;     // group: input channels that share a scale
  bool asymmetric = false;
  const void* weight = nullptr;       // packed for the path
  const int32_t* start = nullptr;     // (groups, out): what integer sums start from; undoes a path's offset of codes
  const float* scale = nullptr;       // (groups, out)
  const float* centre = nullptr;      // (groups, out): scale · Σ weight; only where asymmetric
  const float* bias = nullptr;        // (out,)
  const float* prescale = nullptr;    // (in,): multiplies the input before it is rounded; nullptr: nothing does
  int groups() const { return in / group; }
};

struct Norm {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

struct Layer {
  Linear qkv, attention_output, intermediate, output;
  Norm attention_norm, output_norm;
};

struct Model {
  int hidden = 0, width = 0, inner = 0, heads = 0, layers = 0;   // width: of the embeddings
  int64_t vocabulary = 0, positions = 0, types = 0, padding_id = -1;
  float epsilon = 0;
  Activation activation = Activation::kGelu;
  const float* words = nullptr;           // or, where nullptr, their codes with a scale a row
  const int8_t* word_codes = nullptr;
  const float* word_scales = nullptr;
  const float* position_table = nullptr;
  const float* segment_table = nullptr;   // nullptr: the model takes no segment ids
  Norm embedding_norm;
  Linear projection;                      // in is 0 where the model has none
  const Layer* layer = nullptr;
  const float* head_weight = nullptr;     // (2, hidden)
  float head_bias[2] = {0, 0};
  int head_size() const { return hidden / heads; }
};

// A run's input, checked already: every id lies in its table, every window has 0 to kLongest tokens.
struct Batch {
  const int32_t* ids;
  const int32_t* types;       // nullptr where the model takes none
  const int32_t* positions;   // row of the position table
  const int32_t* ends;        // (windows + 1,)
  int windows;
  float* start_logits;
  float* end_logits;
};

class Team;

// What the memory of a run depends on: the most rows that pass through the stack together, and the longest window.
struct RunSize {
  int rows = 1, longest = 1;
};

// One set of instructions. Every function pointer stays inside the file that was compiled for them.
struct Path {
  const char* name;
  size_t code_bytes;      // of one activation's code
  size_t weight_bytes;    // of one packed weight
  void (*pack)(const int8_t* weight, int in, int out, int group, void* packed, int32_t* start);
  // Bytes of memory that a run of this size needs, and for each thread.
  size_t (*shared_bytes)(const Model&, RunSize);
  size_t (*thread_bytes)(const Model&, RunSize);
  // Run by every thread of the team. `own` is this thread's memory.
  void (*encode)(const Model&, const Batch&, Team&, char* shared, char* own);
#ifdef FS_STAGES
  double (*product_rate)(double seconds);
#endif
};

extern const Path kPortable, kAvx2, kAvxVnni, kAvx512Vnni, kAmx, kNeonDot, kNeonI8mm;

// How many rows of whole windows pass through the stack together. It bounds the memory of a run of any size.
constexpr int kRowsTogether = 512;

// The windows from `first` that go together, and the size of a run of all.
int windows_together(const int32_t* ends, int windows, int first);
RunSize size_of_run(const int32_t* ends, int windows);

}  // namespace fastspan

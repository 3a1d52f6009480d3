#include "weights.h"

#include <cmath>
#include <cstring>

namespace fastspan {
namespace {

// Kinds of linear layers, as bits of the attributes that say what a kind has.
enum Kind { kQkv = 1, kAttentionOutput = 2, kIntermediate = 4, kOutput = 8, kProjection = 16 };
constexpr int64_t kMostLayers = 1024;
constexpr int64_t kWidest = 65536;   // sums of 65536 products of codes stay below 2³¹

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

// Takes tensors in order, and keeps the first complaint.
class Reader {
 public:
  Reader(const Path& path, const std::vector<Tensor>& tensors) : path_(path), tensors_(tensors) {}

  // −1 in `shape` stands for any size.
  const Tensor* take(const std::string& what, Type type, std::vector<int64_t> shape) {
    if (!problem.empty()) return nullptr;
    if (next_ == tensors_.size()) return complain("there is no tensor for " + what);
    const Tensor& t = tensors_[next_++];
    bool fits = t.shape.size() == shape.size() && t.type == type;
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = t.shape[i] == shape[i] || (shape[i] < 0 && t.shape[i] > 0);
    if (!fits) return complain(what + " is " + text(t.shape) + " or of another type than it should be: " + text(shape));
    return &t;
  }

  const float* floats(const std::string& what, std::vector<int64_t> shape, int64_t* rows = nullptr) {
    const Tensor* t = take(what, Type::kFloat, std::move(shape));
    if (t == nullptr) return nullptr;
    if (rows != nullptr) *rows = t->shape[0];
    return static_cast<const float*>(t->data);
  }

  void norm(const std::string& what, int size, Norm& norm) {
    norm.weight = floats(what + " weight", {size});
    norm.bias = floats(what + " bias", {size});
  }

  void linear(const std::string& what, int in, int out, const Attributes& a, Kind kind, Linear& l) {
    const Tensor* weight = take(what + " weight", Type::kInt8, {in, out});
    const Tensor* scale = take(what + " scale", Type::kFloat, {-1, out});
    l.bias = floats(what + " bias", {out});
    if ((a.prescaled & kind) != 0) l.prescale = floats(what + " prescale", {in});
    if (!problem.empty()) return;
    const int64_t groups = scale->shape[0];
    if (in % groups != 0 || (in / groups) % 64 != 0) {
      complain(what + " has " + std::to_string(groups) + " groups of " + std::to_string(in) +
               " channels; a group must be a multiple of 64");
      return;
    }
    l.in = in, l.out = out, l.group = static_cast<int>(in / groups), l.asymmetric = (a.asymmetric & kind) != 0;
    l.scale = static_cast<const float*>(scale->data);
    l.weight = weight->data;   // packed once all sizes are known
    linears_.push_back(&l);
  }

  void finished() {
    if (problem.empty() && next_ != tensors_.size()) complain("there are more tensors than the model has weights");
  }

  // Packs every weight into one block.
  void pack(Memory& memory) {
    size_t bytes = 0;
    for (const Linear* l : linears_) bytes += parts(*l).total;
    memory = Memory(bytes);
    if (memory.data() == nullptr) {
      complain("there is no memory for the packed weights");
      return;
    }
    char* at = memory.data();
    for (Linear* l : linears_) {
      const Parts p = parts(*l);
      const int8_t* weight = static_cast<const int8_t*>(l->weight);
      int32_t* start = reinterpret_cast<int32_t*>(at + p.weight);
      path_.pack(weight, l->in, l->out, l->group, at, start);
      l->weight = at;
      l->start = start;
      if (l->asymmetric) {
        float* centre = reinterpret_cast<float*>(at + p.weight + p.start);
        add_centres(*l, weight, centre);
        l->centre = centre;
      }
      at += p.total;
    }
  }

  std::string problem;

 private:
  struct Parts {
    size_t weight, start, total;
  };

  Parts parts(const Linear& l) const {
    const size_t weight = static_cast<size_t>(l.in) * l.out * path_.weight_bytes;
    const size_t start = static_cast<size_t>(l.groups()) * l.out * sizeof(int32_t);
    return {weight, start, weight + start * (l.asymmetric ? 2 : 1)};
  }

  static void add_centres(const Linear& l, const int8_t* weight, float* centre) {
    std::vector<int32_t> sums(l.out);
    for (int g = 0; g < l.groups(); ++g) {
      sums.assign(l.out, 0);
      for (int k = g * l.group; k < (g + 1) * l.group; ++k) {
        for (int n = 0; n < l.out; ++n) sums[n] += weight[static_cast<size_t>(k) * l.out + n];
      }
      for (int n = 0; n < l.out; ++n) {
        const size_t at = static_cast<size_t>(g) * l.out + n;
        centre[at] = static_cast<float>(sums[n]) * l.scale[at];
      }
    }
  }

  std::nullptr_t complain(const std::string& what) {
    problem = what;
    return nullptr;
  }

  const Path& path_;
  const std::vector<Tensor>& tensors_;
  size_t next_ = 0;
  std::vector<Linear*> linears_;
};

bool width_fits(int64_t n) { return n > 0 && n % kWidth == 0 && n <= kWidest; }

std::string read_activation(const std::string& name, Activation& out) {
  if (name == "gelu") out = Activation::kGelu;
  else if (name == "gelu_tanh") out = Activation::kGeluTanh;
  else if (name == "relu") out = Activation::kRelu;
  else return "there is no activation '" + name + "'";
  return "";
}

void read_layer(Reader& read, const Attributes& a, const Model& m, int number, Layer& layer) {
  const std::string of = "layer " + std::to_string(number) + " ";
  read.linear(of + "query, key and value", m.hidden, 3 * m.hidden, a, kQkv, layer.qkv);
  read.linear(of + "attention output", m.hidden, m.hidden, a, kAttentionOutput, layer.attention_output);
  read.norm(of + "attention norm", m.hidden, layer.attention_norm);
  read.linear(of + "intermediate", m.hidden, m.inner, a, kIntermediate, layer.intermediate);
  read.linear(of + "output", m.inner, m.hidden, a, kOutput, layer.output);
  read.norm(of + "output norm", m.hidden, layer.output_norm);
}

}  // namespace

std::string pack_model(const Path& path, const Attributes& a, const std::vector<Tensor>& tensors, PackedModel& packed) {
  Model& m = packed.model;
  if (a.layers < 1 || a.layers > kMostLayers) return "there must be 1 to 1024 layers";
  // Sizes are read off the tensors that alone tell them: the words' width, the head's rows, the last intermediate's columns.
  const size_t behind_inner_bias = 7 + ((a.prescaled & kIntermediate) != 0) + ((a.prescaled & kOutput) != 0);
  if (tensors.size() < behind_inner_bias + 2) return "the number of inputs does not fit the number of layers";
  const Tensor& words = tensors.front();
  const Tensor& head = tensors[tensors.size() - 2];
  const Tensor& inner_bias = tensors[tensors.size() - 1 - behind_inner_bias];
  if (words.shape.size() != 2 || head.shape.size() != 2 || inner_bias.shape.size() != 1) {
    return "the embeddings, the head or the last intermediate layer have the wrong number of dimensions";
  }
  if (!width_fits(words.shape[1]) || !width_fits(head.shape[0]) || !width_fits(inner_bias.shape[0])) {
    return "embedding width, hidden size and feed-forward size must be multiples of 64";
  }
  m.width = static_cast<int>(words.shape[1]);
  m.hidden = static_cast<int>(head.shape[0]);
  m.inner = static_cast<int>(inner_bias.shape[0]);
  m.layers = static_cast<int>(a.layers);
  if (a.heads < 1 || a.heads > m.hidden || m.hidden % a.heads != 0 || m.hidden / a.heads % 16 != 0) {
    return "the hidden size over the number of heads must be a multiple of 16";
  }
  if (m.hidden / a.heads > 256) return "a head has at most 256 channels";
  if (!(a.epsilon >= 0) || !std::isfinite(a.epsilon)) return "epsilon must be a number from 0 up";
  m.heads = static_cast<int>(a.heads);
  m.epsilon = a.epsilon;
  m.padding_id = a.padding_id;
  if (std::string problem = read_activation(a.activation, m.activation); !problem.empty()) return problem;

  Reader read(path, tensors);
  if (words.type == Type::kInt8) {
    const Tensor* codes = read.take("words", Type::kInt8, {-1, m.width});
    m.vocabulary = codes == nullptr ? 0 : codes->shape[0];
    m.word_codes = codes == nullptr ? nullptr : static_cast<const int8_t*>(codes->data);
    m.word_scales = read.floats("words' scales", {m.vocabulary, 1});
  } else {
    m.words = read.floats("words", {-1, m.width}, &m.vocabulary);
  }
  m.position_table = read.floats("positions", {-1, m.width}, &m.positions);
  if (a.segments == 1) m.segment_table = read.floats("segments", {-1, m.width}, &m.types);
  read.norm("embedding norm", m.width, m.embedding_norm);
  if (m.width != m.hidden) {
    read.linear("embedding projection", m.width, m.hidden, a, kProjection, m.projection);
  }
  packed.layers.resize(m.layers);
  for (int i = 0; i < m.layers; ++i) read_layer(read, a, m, i, packed.layers[i]);
  m.layer = packed.layers.data();
  const float* head_weight = read.floats("head weight", {m.hidden, 2});
  const float* head_bias = read.floats("head bias", {2});
  read.finished();
  if (!read.problem.empty()) return read.problem;

  packed.head.resize(2 * static_cast<size_t>(m.hidden));
  for (int k = 0; k < 2; ++k) {
    for (int i = 0; i < m.hidden; ++i) packed.head[static_cast<size_t>(k) * m.hidden + i] = head_weight[2 * i + k];
    m.head_bias[k] = head_bias[k];
  }
  m.head_weight = packed.head.data();
  read.pack(packed.memory);
  return read.problem;
}

}  // namespace fastspan

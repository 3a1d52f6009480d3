// Runs the kernels without ONNX Runtime, under sanitizers or an emulator: every path of this CPU against the portable
// one, bit for bit, over shapes and values drawn at random. Usage: driver [cases] [seed]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "paths.h"
#include "runner.h"
#include "toy.h"

extern "C" int fastspan_kernels_self_test(const char* name) noexcept;

namespace {

using namespace fastspan;

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

class Draw {
 public:
  explicit Draw(uint32_t seed) : state_(seed) {}
  int below(int n) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<int>((state_ >> 8) % static_cast<uint32_t>(n));
  }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return *(choices.begin() + below(static_cast<int>(choices.size())));
  }

 private:
  uint32_t state_;
};

bool on_threads(void*, void (*body)(void*, size_t), size_t threads, void* data) {
  std::vector<std::thread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back(body, data, i);
  body(data, 0);
  for (std::thread& t : others) t.join();
  return true;
}

std::vector<const Path*> paths_here() {
  std::vector<const Path*> paths;
  for (int i = 0; i < kCandidateCount; ++i) {
    if (kCandidates[i].runs_here()) paths.push_back(kCandidates[i].path);
  }
  return paths;
}

ToySizes draw_sizes(Draw& draw) {
  ToySizes s;
  s.heads = draw.of({1, 2, 3, 4, 6});
  const int size = draw.of({16, 32, 48, 64, 80, 128});
  s.hidden = s.heads * size;
  while (s.hidden % 64 != 0) s.hidden += s.heads * size;
  s.heads = s.hidden / size;
  s.width = draw.below(3) == 0 ? 64 * (1 + draw.below(3)) : s.hidden;
  s.inner = 64 * (1 + draw.below(12));
  s.layers = 1 + draw.below(2);
  s.group = draw.below(2) == 0 ? 64 : s.hidden;
  s.inner_group = s.inner;
  for (int g : {64, 128, 192, 512}) {
    if (s.inner % g == 0 && draw.below(3) == 0) s.inner_group = g;
  }
  s.vocabulary = 1 + draw.below(40);
  s.segments = draw.below(2) == 0;
  s.asymmetric = draw.below(32);
  s.prescaled = draw.below(32);
  s.padding_id = draw.below(2) == 0 ? -1 : draw.below(3);
  s.positions = 1200;
  s.activation = draw.of({"gelu", "gelu", "gelu_tanh", "relu"});
  s.seed = static_cast<uint32_t>(draw.below(1 << 20));
  return s;
}

std::vector<int> draw_lengths(Draw& draw) {
  std::vector<int> lengths;
  switch (draw.below(8)) {
    case 0: lengths.assign(1, 1); break;
    case 1: lengths.assign(1, 512); break;
    case 2: lengths.assign(1000, 1); break;
    case 3: lengths.assign(static_cast<size_t>(1 + draw.below(3)), 300); break;
    case 4: lengths = {513 + draw.below(600), draw.below(9)}; break;
    default:
      for (int n = 1 + draw.below(8); n > 0; --n) lengths.push_back(draw.below(90));
  }
  return lengths;
}

// Some values of a weight that no checkpoint should have.
void spoil(Toy& toy, Draw& draw) {
  const float inf = std::numeric_limits<float>::infinity();
  for (int n = 1 + draw.below(4); n > 0; --n) {
    std::vector<float>& values = toy.floats()[static_cast<size_t>(draw.below(static_cast<int>(toy.floats().size())))];
    const float value = draw.of({NAN, inf, -inf, 0.0f, 1e-42f, 1e-39f, 3e38f, -3e38f, 1e-30f});
    if (draw.below(4) == 0) {
      values.assign(values.size(), value);
    } else {
      values[static_cast<size_t>(draw.below(static_cast<int>(values.size())))] = value;
    }
  }
}

// The bits, every value that is no number alike.
std::vector<uint32_t> bits(const ToyInput& input) {
  std::vector<uint32_t> out;
  for (const auto* side : {&input.start, &input.end}) {
    for (float v : *side) {
      uint32_t b;
      std::memcpy(&b, &v, sizeof b);
      out.push_back(v != v ? 0x7fc00000u : b);
    }
  }
  return out;
}

std::vector<uint32_t> logits(Runner& runner, ToyInput& input) {
  std::fill(input.start.begin(), input.start.end(), -7.0f);
  std::fill(input.end.begin(), input.end.end(), -7.0f);
  const std::string problem = runner.run(input.run(), on_threads, nullptr);
  expect(problem.empty(), "a run: " + problem);
  return bits(input);
}

void one_case(int number, Draw& draw, const std::vector<const Path*>& paths) {
  const ToySizes sizes = draw_sizes(draw);
  Toy toy(sizes);
  const bool spoiled = draw.below(3) == 0;
  if (spoiled) spoil(toy, draw);
  const std::vector<int> lengths = draw_lengths(draw);
  ToyInput input(sizes, lengths, static_cast<uint32_t>(number) + 1);
  std::vector<uint32_t> reference;
  // The portable path, which is the last, first.
  for (size_t p = paths.size(); p-- > 0;) {
    Runner runner(*paths[p], draw.of({1, 2, 3, 9}));
    const std::string problem = runner.load(toy.attributes(), toy.tensors());
    expect(problem.empty(), "loading: " + problem);
    const std::vector<uint32_t> got = logits(runner, input);
    if (reference.empty()) reference = got;
    expect(got == reference, std::string(paths[p]->name) + " differs in case " + std::to_string(number));
    expect(got == logits(runner, input), std::string(paths[p]->name) + " repeats itself in case " + std::to_string(number));
  }
  if (spoiled) return;
  for (uint32_t v : reference) expect(v != 0x7fc00000u, "numbers in case " + std::to_string(number));
}

// A window alone gives the bits that it gives among others.
void windows_do_not_see_each_other(const std::vector<const Path*>& paths) {
  ToySizes sizes;
  sizes.hidden = 128, sizes.heads = 4, sizes.layers = 2;
  const Toy toy(sizes);
  for (const Path* path : paths) {
    Runner runner(*path, 2);
    expect(runner.load(toy.attributes(), toy.tensors()).empty(), "loading");
    ToyInput all(sizes, {33, 7, 0, 90, 512, 1}, 3);
    logits(runner, all);
    for (size_t w = 0; w + 1 < all.ends.size(); ++w) {
      ToyInput alone(sizes, {all.ends[w + 1] - all.ends[w]}, 1);
      std::copy(all.ids.begin() + all.ends[w], all.ids.begin() + all.ends[w + 1], alone.ids.begin());
      std::copy(all.types.begin() + all.ends[w], all.types.begin() + all.ends[w + 1], alone.types.begin());
      logits(runner, alone);
      const bool same = std::equal(alone.start.begin(), alone.start.end(), all.start.begin() + all.ends[w]);
      expect(same, std::string(path->name) + ": a window alone");
    }
  }
}

// Runs that end at a deadline say so, and harm no later one.
void late_runs_end(const std::vector<const Path*>& paths) {
  ToySizes sizes;
  sizes.hidden = 128, sizes.heads = 4, sizes.layers = 2;
  const Toy toy(sizes);
  for (const Path* path : paths) {
    Runner runner(*path, 3);
    expect(runner.load(toy.attributes(), toy.tensors()).empty(), "loading");
    ToyInput input(sizes, {33, 7, 0, 90, 512, 1, 300, 300}, 3);
    const std::vector<uint32_t> whole = logits(runner, input);
    for (int microseconds : {0, 20, 100, 500, 2000}) {
      RunInput run = input.run();
      run.deadline = Clock::now() + std::chrono::microseconds(microseconds);
      const std::string problem = runner.run(run, on_threads, nullptr);
      const bool over = problem.empty() ? bits(input) == whole : problem.find("deadline") != std::string::npos;
      expect(over, std::string(path->name) + ": a run with a deadline: " + problem);
      if (microseconds == 0) expect(!problem.empty(), std::string(path->name) + ": a run that is late from the start");
      expect(whole == logits(runner, input), std::string(path->name) + ": the run after a late one");
    }
  }
}

// A run takes no more threads than it may, and its numbers do not tell how many it had.
void runs_take_the_threads_they_may(const std::vector<const Path*>& paths) {
  ToySizes sizes;
  sizes.hidden = 128, sizes.heads = 4, sizes.layers = 2;
  const Toy toy(sizes);
  const auto counting = [](void* taken, void (*body)(void*, size_t), size_t threads, void* data) {
    *static_cast<size_t*>(taken) = threads;
    return on_threads(nullptr, body, threads, data);
  };
  for (const Path* path : paths) {
    Runner runner(*path, 3);
    expect(runner.load(toy.attributes(), toy.tensors()).empty(), "loading");
    ToyInput input(sizes, {33, 7, 0, 90, 300}, 3);
    const std::vector<uint32_t> whole = logits(runner, input);
    for (int limit : {1, 2, 3, 4}) {
      RunInput run = input.run();
      run.thread_limit = limit;
      size_t taken = 1;  // on the caller's alone, nobody is asked for others
      expect(runner.run(run, counting, &taken).empty(), "a run with a limit");
      expect(taken == static_cast<size_t>(limit < 3 ? limit : 3), std::string(path->name) + ": threads of a run");
      expect(bits(input) == whole, std::string(path->name) + ": a run with fewer threads");
    }
  }
}

void bad_input_is_refused() {
  ToySizes sizes;
  const Toy toy(sizes);
  Runner runner(kPortable, 1);
  expect(runner.load(toy.attributes(), toy.tensors()).empty(), "loading");
  const auto refused = [&](const char* what, auto spoil_input) {
    ToyInput input(sizes, {3, 4}, 1);
    RunInput run = input.run();
    spoil_input(input, run);
    expect(!runner.run(run, nullptr, nullptr).empty(), what);
  };
  refused("an id behind the vocabulary", [](ToyInput& i, RunInput&) { i.ids[3] = 32; });
  refused("a negative id", [](ToyInput& i, RunInput&) { i.ids[0] = -1; });
  refused("a segment that is not there", [](ToyInput& i, RunInput&) { i.types[6] = 2; });
  refused("windows that decrease", [](ToyInput& i, RunInput&) { i.ends[1] = -1; });
  refused("windows behind the rows", [](ToyInput& i, RunInput&) { i.ends[1] = 9; });
  refused("windows that do not begin at 0", [](ToyInput& i, RunInput&) { i.ends[0] = 1; });
  refused("windows that end early", [](ToyInput& i, RunInput&) { i.ends[2] = 6; });
  ToyInput long_window(sizes, {513}, 1);
  expect(!runner.run(long_window.run(), nullptr, nullptr).empty(), "a window of more tokens than the model has positions");
  ToyInput none(sizes, {}, 1);
  expect(runner.run(none.run(), nullptr, nullptr).empty(), "no window at all");

  const auto not_loaded = [&](const char* what, auto change) {
    Attributes attributes = toy.attributes();
    std::vector<Tensor> tensors = toy.tensors();
    change(attributes, tensors);
    Runner other(kPortable, 1);
    expect(!other.load(attributes, tensors).empty(), what);
  };
  not_loaded("no layers", [](Attributes& a, std::vector<Tensor>&) { a.layers = 0; });
  not_loaded("too many layers", [](Attributes& a, std::vector<Tensor>&) { a.layers = 2; });
  not_loaded("heads that do not divide", [](Attributes& a, std::vector<Tensor>&) { a.heads = 3; });
  not_loaded("an unknown activation", [](Attributes& a, std::vector<Tensor>&) { a.activation = "silu"; });
  not_loaded("a tensor too many", [](Attributes&, std::vector<Tensor>& t) { t.push_back(t.back()); });
  not_loaded("a tensor of another size", [](Attributes&, std::vector<Tensor>& t) { t[5].shape[1] += 64; });
  not_loaded("floats for bytes", [](Attributes&, std::vector<Tensor>& t) { t[5].type = Type::kFloat; });
  not_loaded("no tensors", [](Attributes&, std::vector<Tensor>& t) { t.clear(); });
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 40;
  Draw draw(argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 1);
  const std::vector<const Path*> paths = paths_here();
  for (const Path* path : paths) {
    std::printf("%s\n", path->name);
    expect(fastspan_kernels_self_test(path->name) == 0, std::string("self-test of ") + path->name);
  }
  expect(fastspan_kernels_self_test("none") == 1, "self-test of a path that is not there");
  bad_input_is_refused();
  windows_do_not_see_each_other(paths);
  late_runs_end(paths);
  runs_take_the_threads_they_may(paths);
  for (int i = 0; i < cases; ++i) one_case(i, draw, paths);
  std::printf("%d cases, %d failures\n", cases, failures);
  return failures == 0 ? 0 : 1;
}

// How a run's work is cut: into steps, which a team of threads passes through, and each step into tasks.
//
// How it is cut never changes a result: every element is computed by one task, in one order.
#pragma once
#include "inlining.h"
#include "model.h"
#include "stages.h"
#include "team.h"

namespace {

FS_INLINE int smaller(int a, int b) { return a < b ? a : b; }
FS_INLINE int larger(int a, int b) { return a > b ? a : b; }
FS_INLINE int divided_up(int a, int b) { return (a + b - 1) / b; }

class Steps {
 public:
  explicit Steps(Team& team) : team_(team) {}

  int threads() const { return team_.threads(); }
  bool late() const { return team_.late(); }

  // Runs task(0) … task(count − 1), each by whichever thread comes first; returns when all are done.
  template <class Task>
  FS_INLINE void in_tasks(int count, Task task) {
    for (int i = team_.claim(step_); i < count; i = team_.claim(step_)) {
      task(i);
      team_.finish(step_);
    }
    {
      const Counted counted(kWaiting);
      team_.wait(step_, count);
    }
    ++step_;
  }

  // By rows: a few tasks a thread, of at least 4 rows. task(row)
  template <class Task>
  FS_INLINE void by_rows(int rows, Task task) {
    const int size = larger(4, divided_up(rows, 4 * threads()));
    in_tasks(divided_up(rows, size), [&](int i) {
      const int end = smaller(rows, (i + 1) * size);
      for (int r = i * size; r < end; ++r) task(r);
    });
  }

  // By columns in multiples of `unit`, so that weights stream once, and by rows in multiples of `block` where
  // columns alone would leave threads idle, or a deadline unseen for long. Neighbouring columns stay together: their
  // weights follow each other in memory. task(column, columns, row, rows)
  template <class Task>
  FS_INLINE void by_columns(int rows, int block, int columns, int unit, Task task) {
    const int units = columns / unit, most = divided_up(rows, 32);
    const int width = unit * (threads() == 1 ? units : larger(1, units / (3 * threads())));
    const int across = divided_up(columns, width);
    int parts = divided_up(rows, kRowsTogether);
    while (parts < most && across * parts % threads() != 0 && across * parts < 8 * threads()) ++parts;
    const int size = (divided_up(rows, parts) + block - 1) / block * block;
    parts = divided_up(rows, size);
    in_tasks(across * parts, [&](int i) {
      const int column = i / parts * width, row = i % parts * size;
      task(column, smaller(width, columns - column), row, smaller(size, rows - row));
    });
  }

 private:
  Team& team_;
  size_t step_ = 0;
};

}  // namespace

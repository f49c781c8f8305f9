// Where each sequence stood in its list when it was last scored: what the budget rule keeps from exit to exit.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/rules/list_at_exit.h"

namespace matryoshka {

struct Standings {
  std::vector<double> place;  ///< [n] estimate less the list's level at that exit; NaN where it is not finite
  std::vector<double> width;  ///< [n] half-width per unit of scale there; infinite where it is not finite
  /// [lists] sum over the exits so far of the mean change of the documents still running: between two exits a list's scores
  /// move together, and a document that has stopped must not fall behind for that.
  std::vector<double> level;

  void reset(int sequences, int lists) {
    place.assign(sequences, std::numeric_limits<double>::quiet_NaN());
    width.assign(sequences, 0);
    level.assign(lists, 0);
  }
  /// The sequences `running` of list `list` were scored again. Changes that are not finite do not count.
  void move(int list, const int32_t* running, const ListAtExit& now);
};

}  // namespace matryoshka

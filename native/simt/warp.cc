#include "simt/warp.h"

#include "simt/block.h"
#include "simt/emulator.h"
#include "simt/halves.h"

namespace matryoshka::simt {
namespace {

struct Shuffle {
  float value, result;
  int mask;
};

struct ShuffleUp {
  int value, result, distance;
};

struct Rows {
  const uint16_t* row;
  uint32_t* out;
  bool transposed;
};

struct Product {
  float* d;
  const uint32_t* a;
  uint32_t b0, b1;
};

void combine_xor(void** lanes) {
  for (int l = 0; l < 32; ++l) {
    auto* mine = static_cast<Shuffle*>(lanes[l]);
    mine->result = static_cast<Shuffle*>(lanes[(l ^ mine->mask) % 32])->value;
  }
}

void combine_up(void** lanes) {
  for (int l = 0; l < 32; ++l) {
    auto* mine = static_cast<ShuffleUp*>(lanes[l]);
    mine->result = l >= mine->distance ? static_cast<ShuffleUp*>(lanes[l - mine->distance])->value : mine->value;
  }
}

void combine_rows(void** lanes) {
  const auto row = [&](int matrix, int r) { return static_cast<Rows*>(lanes[matrix * 8 + r])->row; };
  for (int l = 0; l < 32; ++l) {
    auto* mine = static_cast<Rows*>(lanes[l]);
    const int g = l / 4, t = l % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      const uint32_t low = mine->transposed ? row(m, t)[g] : row(m, g)[t];
      const uint32_t high = mine->transposed ? row(m, t + 1)[g] : row(m, g)[t + 1];
      mine->out[m] = low | high << 16;
    }
  }
}

template <float (*kWiden)(uint16_t)>
void combine_product(void** lanes) {
  ++counters.mma;
  float a[16][16], b[16][8], c[16][8] = {};
  const auto low = [](uint32_t v) { return kWiden(static_cast<uint16_t>(v)); };
  const auto high = [](uint32_t v) { return kWiden(static_cast<uint16_t>(v >> 16)); };
  for (int l = 0; l < 32; ++l) {
    const auto* p = static_cast<Product*>(lanes[l]);
    const int g = l / 4, t = l % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      a[g + i % 2 * 8][t + i / 2 * 8] = low(p->a[i]);
      a[g + i % 2 * 8][t + i / 2 * 8 + 1] = high(p->a[i]);
    }
    b[t][g] = low(p->b0);
    b[t + 1][g] = high(p->b0);
    b[t + 8][g] = low(p->b1);
    b[t + 9][g] = high(p->b1);
  }
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 8; ++n) c[r][n] += a[r][k] * b[k][n];
  for (int l = 0; l < 32; ++l) {
    const auto* p = static_cast<Product*>(lanes[l]);
    const int g = l / 4, t = l % 4 * 2;
    p->d[0] += c[g][t];
    p->d[1] += c[g][t + 1];
    p->d[2] += c[g + 8][t];
    p->d[3] += c[g + 8][t + 1];
  }
}

}  // namespace

float shuffle_xor(float value, int mask) {
  Shuffle s{value, 0, mask};
  meet(Collective::shuffle, &s, combine_xor);
  return s.result;
}

int shuffle_up(int value, int distance) {
  ShuffleUp s{value, 0, distance};
  meet(Collective::shuffle, &s, combine_up);
  return s.result;
}

void ldmatrix_x4(uint32_t (&out)[4], const uint16_t (&row)[8], bool transposed) {
  Rows r{row, out, transposed};
  meet(Collective::ldmatrix, &r, combine_rows);
}

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product p{d, a, b0, b1};
  meet(Collective::mma, &p, combine_product<bf16_to_float>);
}

void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product p{d, a, b0, b1};
  meet(Collective::mma, &p, combine_product<f16_to_float>);
}

}  // namespace matryoshka::simt

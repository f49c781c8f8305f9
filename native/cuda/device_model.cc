#include "cuda/device_model.h"

#include <algorithm>
#include <cstring>

#include "simt/halves.h"

namespace matryoshka::cuda {
namespace {

/// Where rows or columns of a padded matrix come from. `size` places hold `parts` runs of `real` source elements, each
/// padded to `padded`, then zeroes; and all of it `copies` times, one source after the other.
struct Axis {
  int parts, real, padded, size, copies = 1;

  int places() const { return size * copies; }
  int sources() const { return parts * real * copies; }
  /// The source of a place, or -1 for a zero.
  int source(int place) const {
    const int copy = place / size, part = place % size / padded, within = place % size % padded;
    return part < parts && within < real ? (copy * parts + part) * real + within : -1;
  }
};
Axis plain(int real, int size) { return {1, real, size, size}; }

void put(float value, ElementType type, char* to) {
  if (type == ElementType::f32) {
    std::memcpy(to, &value, sizeof value);
    return;
  }
  const uint16_t half = type == ElementType::bf16 ? simt::float_to_bf16(value) : simt::float_to_f16(value);
  std::memcpy(to, &half, sizeof half);
}

/// Counts what everything takes, then does it over: uploads in slabs, so that no table exists twice.
class Uploader {
 public:
  Uploader(Stream& stream, ElementType type, char* memory) : stream_(stream), type_(type), carver_(memory), writes_(memory != nullptr) {}

  size_t bytes() const { return carver_.bytes(); }

  /// A matrix whose source rows lie in `tensors` one below the other.
  void* matrix(const std::vector<const Tensor*>& tensors, Axis rows, Axis columns) {
    const size_t row_bytes = columns.places() * bytes_of(type_);
    char* const to = carver_.take(row_bytes * rows.places());
    if (!writes_) return nullptr;
    const int source_columns = columns.sources(), slab_rows = std::max(1, static_cast<int>(kSlab / row_bytes));
    std::vector<float> source(source_columns);
    for (int first = 0; first < rows.places(); first += slab_rows) {
      const int count = std::min(slab_rows, rows.places() - first);
      slab_.assign(row_bytes * count, '\0');
      for (int r = 0; r < count; ++r) {
        int from = rows.source(first + r);
        if (from < 0) continue;
        size_t t = 0;
        for (; from >= rows_of(*tensors[t], source_columns); ++t) from -= rows_of(*tensors[t], source_columns);
        widen(*tensors[t], static_cast<size_t>(from) * source_columns, source_columns, source.data());
        for (int c = 0; c < columns.places(); ++c)
          if (const int s = columns.source(c); s >= 0) put(source[s], type_, &slab_[row_bytes * r + c * bytes_of(type_)]);
      }
      upload(to + row_bytes * first, slab_.data(), slab_.size());
    }
    return to;
  }
  void* vector(const Tensor* tensor, int size) {
    return matrix({tensor}, plain(1, 1), plain(static_cast<int>(tensor->count()), size));
  }
  float* bias(const std::vector<const Tensor*>& tensors, Axis rows) {
    float* const to = carver_.take<float>(rows.places());
    if (!writes_) return nullptr;
    std::vector<float> source, padded(rows.places(), 0.f);
    for (const Tensor* t : tensors) {
      source.resize(source.size() + t->count());
      widen(*t, 0, t->count(), source.data() + source.size() - t->count());
    }
    for (int r = 0; r < rows.places(); ++r)
      if (const int s = rows.source(r); s >= 0) padded[r] = source[s];
    upload(to, padded.data(), padded.size() * sizeof(float));
    return to;
  }
  float* floats(const std::vector<float>& values) {
    float* const to = carver_.take<float>(values.size());
    if (writes_) upload(to, values.data(), values.size() * sizeof(float));
    return to;
  }
  DeviceModel::Linear linear(const LinearSource& source, Axis rows, Axis columns) {
    return {matrix(source.weights, rows, columns), bias(source.biases, rows), rows.places(), columns.places()};
  }
  DeviceModel::Norm norm(const NormSource& source, int size) { return {vector(source.weight, size), vector(source.bias, size)}; }

 private:
  static constexpr size_t kSlab = size_t{4} << 20;
  /// Waits, since what is copied from is not staging memory, and is used again.
  void upload(void* to, const void* from, size_t bytes) {
    stream_.upload(to, from, bytes);
    stream_.wait(stream_.mark());
  }
  static int rows_of(const Tensor& tensor, int columns) { return static_cast<int>(tensor.count() / columns); }

  Stream& stream_;
  ElementType type_;
  Carver carver_;
  bool writes_;
  std::vector<char> slab_;
};

}  // namespace

template <class Uploader>
void DeviceModel::lay_out(const Checkpoint& checkpoint, Uploader& up) {
  const Architecture& a = checkpoint.architecture();
  const Axis hidden = plain(a.hidden, shape.hidden), wide = plain(a.intermediate, shape.intermediate);
  const Axis attention{a.heads, a.head_dim, shape.head_dim, shape.attention};
  const Axis keys_and_values{a.heads, a.head_dim, shape.head_dim, shape.attention, 2};
  const EmbeddingSource tables = checkpoint.embedding();
  word = up.matrix({tables.word}, plain(a.vocab, a.vocab), hidden);
  position = up.matrix({tables.position}, plain(a.positions, a.positions), hidden);
  type = up.matrix({tables.type}, plain(a.token_types, a.token_types), hidden);
  embedding_norm = up.norm(tables.norm, shape.hidden);
  for (int l = 0; l < a.layers; ++l) {
    Linear* const linear = layers[l].linear;
    const auto source = [&](Projection which) { return checkpoint.linear(l, which); };
    linear[static_cast<int>(Projection::query)] = up.linear(source(Projection::query), attention, hidden);
    linear[static_cast<int>(Projection::key_value)] = up.linear(source(Projection::key_value), keys_and_values, hidden);
    linear[static_cast<int>(Projection::output)] = up.linear(source(Projection::output), hidden, attention);
    linear[static_cast<int>(Projection::up)] = up.linear(source(Projection::up), wide, hidden);
    linear[static_cast<int>(Projection::down)] = up.linear(source(Projection::down), hidden, wide);
    for (int s = 0; s < 2; ++s) layers[l].norm[s] = up.norm(checkpoint.norm(l, static_cast<Site>(s)), shape.hidden);
  }
  for (size_t exit = 0; exit < heads.size(); ++exit) {
    if (exit > 0 && a.own_head_everywhere) {
      heads[exit] = heads[0];
      continue;
    }
    const HeadSource source = checkpoint.head(static_cast<int>(exit));
    if (source.dense_weight) heads[exit].dense = up.linear({{source.dense_weight}, {source.dense_bias}, a.hidden, a.hidden}, hidden, hidden);
    if (source.query) heads[exit].dense = up.linear({{source.query}, {source.weight}, a.hidden, a.hidden}, hidden, hidden);
    heads[exit].weight = up.vector(source.weight, shape.hidden);
    heads[exit].bias = widened(*source.bias)[0];
    heads[exit].carry = static_cast<float>(source.carry);
  }
  for (size_t exit = 0; exit < compensations.size(); ++exit) {
    Compensation& to = compensations[exit];
    if (exit + 1 == compensations.size()) {
      to.output = up.floats({1, 0});
      continue;
    }
    const CompensationSource source = checkpoint.compensation(static_cast<int>(exit));
    const std::vector<float> bias = widened(*source.output_bias);
    std::copy(bias.begin(), bias.end(), to.output_bias);
    to.output = up.floats(widened(*source.output_weight));
    if (!source.hidden_weight) continue;
    to.units = static_cast<int>(source.hidden_bias->count());
    to.hidden_weight = up.matrix({source.hidden_weight}, plain(to.units, to.units), hidden);
    to.hidden_bias = up.floats(widened(*source.hidden_bias));
  }
}

DeviceModel::DeviceModel(const Checkpoint& checkpoint, ElementType element, Stream& stream)
    : shape(PaddedShape::of(checkpoint.architecture())), memory_(stream, Place::device) {
  checkpoint.check_finite();
  layers.resize(checkpoint.architecture().layers);
  heads.resize(checkpoint.exit_layers().size());
  if (checkpoint.compensated()) compensations.resize(heads.size());
  Uploader count(stream, element, nullptr);
  lay_out(checkpoint, count);
  memory_.reserve(count.bytes());
  Uploader write(stream, element, memory_.data());
  lay_out(checkpoint, write);
  stream.wait(stream.mark());
  checkpoint.release_pages();
}

}  // namespace matryoshka::cuda

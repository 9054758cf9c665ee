// Counter: a number with one writer and any readers. Costs its writer what a plain integer costs.
#pragma once

#include <atomic>
#include <cstdint>

namespace limpet::telemetry {

template <class T>
class BasicCounter {
 public:
  BasicCounter() = default;
  BasicCounter(T value) : value_(value) {}  // NOLINT: a number
  BasicCounter(const BasicCounter& other) : value_(other.get()) {}
  BasicCounter& operator=(const BasicCounter& other) {
    set(other.get());
    return *this;
  }

  T get() const { return value_.load(std::memory_order_relaxed); }
  operator T() const { return get(); }  // NOLINT: reads like a number
  void set(T value) { value_.store(value, std::memory_order_relaxed); }

  BasicCounter& operator++() { return *this += 1; }
  BasicCounter& operator--() {
    set(static_cast<T>(get() - 1));
    return *this;
  }
  BasicCounter& operator+=(T by) {
    set(static_cast<T>(get() + by));
    return *this;
  }

 private:
  std::atomic<T> value_{0};
};

using Counter = BasicCounter<uint64_t>;
using Counter32 = BasicCounter<uint32_t>;

}  // namespace limpet::telemetry

#include "common/telemetry/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace limpet::telemetry {
namespace {

using timing::Duration;
using timing::milliseconds;
using timing::seconds;

uint64_t up_to(const DurationHistogram& histogram, int64_t bound_us) {
  const auto& bounds = DurationHistogram::kBoundsUs;
  const auto at = std::find(bounds.begin(), bounds.end(), bound_us);
  EXPECT_NE(at, bounds.end());
  return histogram.up_to(static_cast<std::size_t>(at - bounds.begin()));
}

TEST(DurationHistogramTest, ABoundIsInItsBucketAndWhatIsLongerIsNot) {
  DurationHistogram histogram;
  histogram.observe(milliseconds(5));
  histogram.observe(milliseconds(5) + Duration(1));
  EXPECT_EQ(up_to(histogram, 4'000), 0u);
  EXPECT_EQ(up_to(histogram, 5'000), 1u);
  EXPECT_EQ(up_to(histogram, 7'500), 2u);
}

TEST(DurationHistogramTest, WhatIsLongerThanAllBoundsIsCounted) {
  DurationHistogram histogram;
  histogram.observe(seconds(11));
  EXPECT_EQ(up_to(histogram, 10'000'000), 0u);
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_EQ(histogram.sum(), seconds(11));
}

TEST(DurationHistogramTest, NegativeTimesAreNone) {
  DurationHistogram histogram;
  histogram.observe(-milliseconds(3));
  EXPECT_EQ(up_to(histogram, 100), 1u);
  EXPECT_EQ(histogram.sum(), Duration::zero());
}

}  // namespace
}  // namespace limpet::telemetry

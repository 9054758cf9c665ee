// What a core may send in a turn.
#include "dataplane/egress/output.h"

#include <gtest/gtest.h>

#include "tests/support/heap_pool.h"

namespace limpet::egress {
namespace {

using packet::Buffer;
using packet::DropReason;

TEST(Output, SaysHowManyFramesAPortTakesAndDropsTheRest) {
  support::HeapPool pool(Output::kTransmitFramesMax + 1);
  Output output(2);
  EXPECT_EQ(output.room(1), Output::kTransmitFramesMax);
  while (output.room(1) > 0) {
    Buffer* frame = packet::allocate(pool.pool());
    packet::meta(frame).port = 1;
    output.send(frame);
  }
  EXPECT_EQ(output.tx(1).size(), Output::kTransmitFramesMax);
  EXPECT_EQ(output.room(0), Output::kTransmitFramesMax) << "each port has its own";
  Buffer* surplus = packet::allocate(pool.pool());
  packet::meta(surplus).port = 1;
  output.send(surplus);
  EXPECT_EQ(output.drops(1)[static_cast<std::size_t>(DropReason::kTransmitFull)], 1u);
  for (Buffer* frame : output.tx(1)) packet::release(frame);
  output.tx(1).clear();
  EXPECT_EQ(output.room(1), Output::kTransmitFramesMax);
  EXPECT_EQ(pool.in_use(), 0u);
}

}  // namespace
}  // namespace limpet::egress

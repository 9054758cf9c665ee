#include "tests/golden/forward_table.h"

#include <map>
#include <memory>

#include "dataplane/packet/verdict.h"

namespace limpet::golden {

using support::Sent;

Frame translated(Frame f, const Flow& flow) {
  f.source = support::address(flow.source);
  f.destination = support::address(flow.destination);
  f.source_port = flow.source_port;
  f.destination_port = flow.destination_port;
  --f.ttl;
  return f;
}

Frame reset(const Flow& flow, uint32_t sequence, uint32_t acknowledgment) {
  const uint8_t flags = acknowledgment != 0 ? kTcpRst | kTcpAck : kTcpRst;
  return segment(flow, flags, sequence, acknowledgment)
      .with(&Frame::window, 0)
      .with(&Frame::ip_id, 0)
      .with(&Frame::dont_fragment, true);
}

Frame engine_error(std::string_view from, std::string_view to, uint8_t type, uint8_t code,
                   const Frame& about, uint32_t word) {
  const bool v4 = support::address(from).is_v4();
  Bytes quote = about.build_ip();
  quote.resize(std::min<std::size_t>(quote.size(), v4 ? 576 - 28 : 1280 - 48));
  return support::icmp_error(from, to, type, code, quote, word)
      .with(&Frame::traffic_class, v4 ? 0xc0 : 0)
      .with(&Frame::ip_id, 0)
      .with(&Frame::dont_fragment, true);
}

Frame segment(const Flow& flow, uint8_t flags, uint32_t sequence, uint32_t acknowledgment,
              std::string_view payload) {
  return support::tcp(flow, flags, payload)
      .with(&Frame::sequence, sequence)
      .with(&Frame::acknowledgment, acknowledgment);
}

Step when(std::string what, const On& arrives, std::vector<On> leaves,
          std::vector<DropReason> drops) {
  return {
      std::move(what),
      [arrives](CoreLab& lab) { return lab.send(std::vector<Bytes>{arrives.bytes}, arrives.port); },
      std::move(leaves), std::move(drops)};
}

Step passes(timing::Duration time, std::vector<On> leaves) {
  return {"time passes",
          [time](CoreLab& lab) { return lab.advance(time, timing::milliseconds(250)); },
          std::move(leaves),
          {}};
}

Step changes(std::string what, std::function<void(World&)> change, std::vector<On> leaves) {
  return {std::move(what),
          [change = std::move(change)](CoreLab& lab) {
            change(lab.world);
            return lab.publish();
          },
          std::move(leaves),
          {}};
}

Step checks(std::string what, std::function<void(CoreLab&)> check) {
  return {std::move(what),
          [check = std::move(check)](CoreLab& lab) {
            check(lab);
            return std::vector<Sent>{};
          },
          {},
          {}};
}

std::vector<Step> handshake(const Net& n, uint16_t source_port) {
  const Frame syn = segment(n.up(), kTcpSyn, 1000, 0);
  const Frame syn_ack = segment(n.answer(source_port), kTcpSyn | kTcpAck, 5000, 1001);
  const Frame ack = segment(n.up(), kTcpAck, 1001, 5001);
  return {
      when("SYN", from_client(syn), {to_server(translated(syn, n.nat(source_port)))}),
      when("SYN-ACK", from_server(syn_ack), {to_client(translated(syn_ack, n.down()))}),
      when("ACK", from_client(ack), {to_server(translated(ack, n.nat(source_port)))}),
  };
}

std::vector<Step> operator+(std::vector<Step> first, std::vector<Step> more) {
  for (Step& s : more) first.push_back(std::move(s));
  return first;
}

namespace {

using Drops = std::map<std::string_view, uint64_t>;

Drops drops_of(const CoreLab& lab) {
  Drops out;
  for (std::size_t i = 0; i < packet::kDropReasons; ++i) {
    const auto reason = static_cast<DropReason>(i);
    if (const uint64_t n = lab.drops(reason); n != 0) out[packet::name(reason)] = n;
  }
  return out;
}

std::string text_of(uint8_t port, const Bytes& frame) {
  return "\n    " + std::to_string(port) + ": " + support::describe(frame);
}

void expect_frames(const std::vector<Sent>& left, const std::vector<On>& expected) {
  std::string is;
  std::string should;
  bool same = left.size() == expected.size();
  for (std::size_t i = 0; i < left.size(); ++i) {
    const Bytes& bytes = left[i].bytes;
    is += text_of(left[i].port, bytes);
    // The table may want a sum that stays wrong.
    const std::string wrong = i < expected.size() ? support::sums_wrong(expected[i].bytes) : "";
    EXPECT_EQ(support::sums_wrong(bytes), wrong) << support::describe(bytes);
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    should += text_of(expected[i].port, expected[i].bytes);
    same = same && left[i].port == expected[i].port && left[i].bytes == expected[i].bytes;
  }
  EXPECT_TRUE(same) << "  left:" << is << "\n  expected:" << should;
}

// Ports that start at kSourcePort, so that tables can name them.
class LiteralPorts {
 public:
  LiteralPorts(CoreLab& lab, uint16_t count) {
    for (const auto& pool : lab.world.snapshot->pools) {
      for (const auto& server : pool.servers) {
        for (const uint32_t id : {server.tcp_nat.value, server.udp_nat.value}) {
          ports_.push_back(std::make_unique<egress::SourcePorts>(
              egress::PortSlice{kSourcePort, static_cast<uint16_t>(kSourcePort + count - 1)},
              random_));
          // The first round begins anywhere; what follows begins where it ended.
          align(*ports_.back(), count);
          lab.core().forwarder().nats()[id] = ports_.back().get();
        }
      }
    }
  }
  uint32_t in_use() const {
    uint32_t sum = 0;
    for (const auto& p : ports_) sum += p->in_use();
    return sum;
  }

 private:
  // Takes all and gives them back in order, long ago.
  static void align(egress::SourcePorts& ports, uint16_t count) {
    const timing::Instant long_ago{-1'000'000'000'000};
    for (uint16_t i = 0; i < count; ++i) ports.take(long_ago);
    for (uint16_t i = 0; i < count; ++i)
      ports.give_back(static_cast<uint16_t>(kSourcePort + i), long_ago);
  }

  base::Random random_{1};
  std::vector<std::unique_ptr<egress::SourcePorts>> ports_;
};

}  // namespace

void live(const Row& row) {
  SCOPED_TRACE(row.name);
  const Story& story = row.story;
  CoreLab lab(story.options);
  const LiteralPorts ports(lab, story.source_ports);
  if (story.world) story.world(lab.world);
  lab.publish();
  for (const Step& step : story.steps) {
    SCOPED_TRACE(step.what);
    Drops expected = drops_of(lab);
    for (const DropReason reason : step.drops) ++expected[packet::name(reason)];
    expect_frames(step.act(lab), step.leaves);
    EXPECT_EQ(drops_of(lab), expected);
  }
  if (story.finally) story.finally(lab);
  EXPECT_EQ(lab.buffers().in_use(), 0u) << "a buffer was lost";
  EXPECT_EQ(ports.in_use() + 0u <= lab.core().forwarder().flows().size(), true)
      << "a source port outlived its flow";
}

}  // namespace limpet::golden

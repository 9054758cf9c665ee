// A controller's half of mirroring as a process, for end-to-end tests: an Observer with a
// Transport.
//
//   observer NAME LISTEN SECRET_FILE PEER_NAME PEER_ADDRESS TIMEOUT_S
//
// Prints a line of JSON ten times a second, {"state": "synced", "bindings": 3}, until SIGTERM.
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

#include "control/mirroring/observer.h"
#include "control/mirroring/transport.h"
#include "dataplane/port/clock.h"

namespace limpet::mirroring {
namespace {

int run(char** argv) {
  const auto listen = net::Endpoint::parse(argv[2]);
  const auto address = net::Endpoint::parse(argv[5]);
  if (!listen || !address) return 2;
  const timing::Duration timeout = timing::seconds(std::atoi(argv[6]));

  boost::asio::io_context io;
  const port::TscClock clock;
  std::random_device seed;
  base::Random random(seed());
  const base::KeyedHash hash(random);
  UpdateList list({.entries = 65536, .tombstones = 16384, .peers = 1}, hash,
                  std::pmr::get_default_resource());
  Observer observer(
      list,
      [&](binding::ScopeId) {
        return Observer::Times{timeout, timeout / 2};
      },
      clock);
  TransportOptions options;
  options.name = argv[1];
  for (uint8_t& byte : options.boot.bytes) byte = static_cast<uint8_t>(seed() | 1);
  options.listen = *listen;
  options.secret_file = argv[3];
  options.peers = {{argv[4], *address}};
  options.table_limit = 65536;
  auto transport = Transport::open(io, options, list, observer, clock);
  if (!transport.ok()) {
    std::fprintf(stderr, "%s\n", transport.errors()[0].message.c_str());
    return 1;
  }
  transport.value()->start();

  boost::asio::steady_timer timer(io);
  const std::function<void()> tick = [&] {
    observer.tick(65536);
    uint32_t bindings = 0;
    list.for_each([&](auto, const auto*, const binding::Record& r) { bindings += r.live(); });
    std::printf("{\"state\": \"%s\", \"bindings\": %u}\n",
                std::string(transport.value()->status()[0].state).c_str(), bindings);
    std::fflush(stdout);
    timer.expires_after(timing::milliseconds(100));
    timer.async_wait([&](const boost::system::error_code& error) {
      if (!error) tick();
    });
  };
  tick();
  boost::asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](const boost::system::error_code&, int) {
    transport.value()->close();
    io.stop();
  });
  io.run();
  return 0;
}

}  // namespace
}  // namespace limpet::mirroring

int main(int argc, char** argv) {
  return argc == 7 ? limpet::mirroring::run(argv) : 2;
}

// AsideThread: an Aside that is one thread. Made by a thread that is on the processors on which it
// is to run (port::OnCpus).
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

#include "control/engine/aside.h"

namespace limpet::engine {

class AsideThread final : public Aside {
 public:
  // `io`: the control thread's.
  explicit AsideThread(boost::asio::io_context& io) : io_(io) {}

  void run(std::function<void()> work, std::function<void()> done) override {
    auto both = std::make_shared<Both>(Both{std::move(work), std::move(done)});
    boost::asio::post(thread_, [&io = io_, both]() mutable {
      both->work();
      boost::asio::post(io, [both = std::move(both)] { both->done(); });
    });
  }

  // Waits for all that it was given.
  void join() { thread_.join(); }

 private:
  struct Both {
    std::function<void()> work;
    std::function<void()> done;
  };

  boost::asio::io_context& io_;
  boost::asio::thread_pool thread_{1};
};

}  // namespace limpet::engine

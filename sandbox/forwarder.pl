# The forwarder: carries connections to 127.0.0.1:3128 inside a sandbox to the socket of the claw's proxy, which is the
# sandbox's only way out. It stands before the runner, and runs beside it where there is such a socket.
use strict; use warnings; use POSIX (); use Fcntl; use Errno; use Socket;
my ($forwarder, $listening);
my $proxy = '/run/claw/proxy.sock';
sub forward_connections {
  my (%to, %from, %held, %ended);
  my $drop = sub { for my $one (@_) { next unless defined $one; my $n = fileno $one; delete $to{$n}; delete $from{$n}; delete $held{$n}; delete $ended{$n} } close $_ for grep defined, @_ };
  while (1) {
    my ($read, $write) = ('', '');
    vec($read, fileno $listening, 1) = 1 if keys %from < 900;
    for my $n (keys %from) {
      my $peer = fileno $to{$n};
      vec($read, $n, 1) = 1 if !$ended{$n} && !length $held{$peer};
      vec($write, $n, 1) = 1 if length $held{$n};
    }
    next if select($read, $write, undef, undef) < 0;
    if (vec $read, fileno $listening, 1) {
      if (accept my $client, $listening) {
        socket(my $server, AF_UNIX, SOCK_STREAM, 0) or next;
        if (!connect $server, pack_sockaddr_un($proxy)) { close $client; next }
        for ([$client, $server], [$server, $client]) {
          my ($one, $other) = @$_; my $n = fileno $one;
          fcntl $one, F_SETFL, O_NONBLOCK; $from{$n} = $one; $to{$n} = $other; $held{$n} = '';
        }
      }
    }
    for my $n (keys %from) {
      my $one = $from{$n} or next; my $other = $to{$n}; my $peer = fileno $other;
      if (vec $write, $n, 1) {
        my $sent = syswrite $one, $held{$n};
        if (defined $sent) { substr($held{$n}, 0, $sent) = '' }
        elsif (!$!{EAGAIN} && !$!{EINTR}) { $drop->($one, $other); next }
      }
      if (vec $read, $n, 1) {
        my $got = sysread $one, $held{$peer}, 65536;
        if (!defined $got) { if (!$!{EAGAIN} && !$!{EINTR}) { $drop->($one, $other); next } }
        elsif ($got == 0) { $ended{$n} = 1 }
      }
      # What one side has ended is ended for the other once all of it has been carried.
      if ($ended{$peer} && !length $held{$n}) {
        if ($ended{$n}) { $drop->($one, $other) if !length $held{$peer} } else { shutdown $one, 1 }
      }
    }
  }
}
sub start_forwarder {
  $forwarder = fork;
  return if !defined $forwarder || $forwarder;
  POSIX::setsid(); $SIG{PIPE} = 'IGNORE'; $SIG{CHLD} = 'DEFAULT';
  POSIX::close($_) for 0, 1;
  forward_connections(); POSIX::_exit(0);
}
if (-S $proxy) {
  socket $listening, AF_INET, SOCK_STREAM, 0 or die "no socket: $!"; setsockopt $listening, SOL_SOCKET, SO_REUSEADDR, 1;
  bind $listening, pack_sockaddr_in(3128, INADDR_LOOPBACK) or die "127.0.0.1:3128: $!"; listen $listening, 128;
  start_forwarder();
}

# The runner: one process inside a sandbox that carries all its commands over one stdin and stdout.
# As process 1 of a container it also reaps what its commands leave behind. What a frame is stands in
# src/layers/internal/runner.ts, its other end. It needs perl's own modules and nothing else.
use strict; use warnings; use POSIX (); use Fcntl; use Errno;
my ($in, %commands, %number_of) = ('');
my $prctl = (POSIX::uname())[4] eq 'x86_64' ? 157 : 167;
pipe(my $woken, my $waker); nonblocking($_) for $woken, $waker;
$SIG{CHLD} = sub { syswrite $waker, 'x' }; $SIG{PIPE} = 'IGNORE';
sub nonblocking { fcntl($_[0], F_SETFL, fcntl($_[0], F_GETFL, 0) | O_NONBLOCK) }
sub tell_host {
  my ($type, $number, $content) = @_;
  my $frame = pack('NCN', length $content, $type, $number) . $content;
  while (length $frame) {
    my $n = syswrite STDOUT, $frame;
    if (defined $n) { substr($frame, 0, $n) = '' } elsif (!$!{EINTR}) { leave() }
  }
}
# How many processes the kernel has killed because the sandbox had no memory left; by either kind of control groups.
sub out_of_memory {
  for my $file ('/sys/fs/cgroup/memory.events', '/sys/fs/cgroup/memory/memory.oom_control') {
    open my $counters, '<', $file or next;
    for (<$counters>) { return $1 if /^oom_kill (\d+)/ }
  }
  return 0;
}
sub leave { kill 'KILL', -$_->{pid} for values %commands; POSIX::_exit(0) }
sub start {
  my ($number, $content) = @_;
  my ($folder, $limit, $count, @rest) = split /\0/, $content, -1;
  my @argv = splice @rest, 0, $count;
  my %env = map { split /=/, $_, 2 } @rest;
  pipe(my $in_r, my $in_w); pipe(my $out_r, my $out_w); pipe(my $err_r, my $err_w);
  my $pid = fork;
  return tell_host(4, $number, "no process could be started: $!") unless defined $pid;
  if ($pid == 0) {
    POSIX::setsid(); $SIG{CHLD} = $SIG{PIPE} = 'DEFAULT';
    POSIX::dup2(fileno $in_r, 0); POSIX::dup2(fileno $out_w, 1); POSIX::dup2(fileno $err_w, 2);
    # Where memory runs out commands go, before the runner. Its files in /proc may be closed to its user, and so to its child.
    syscall $prctl, 4, 1, 0, 0, 0;
    if (open my $score, '>', '/proc/self/oom_score_adj') { syswrite $score, '1000' }
    @ENV{keys %env} = values %env;
    if (!chdir $folder) { fail("$folder: $!", 126) }
    { no warnings; exec { $argv[0] } @argv }
    fail("$argv[0]: " . ($!{ENOENT} ? 'command not found' : $!), 127);
  }
  nonblocking($_) for $in_w, $out_r, $err_r;
  $number_of{$pid} = $number;
  $commands{$number} = { pid => $pid, 0 => $in_w, 1 => $out_r, 2 => $err_r, stdin => '', left => { 1 => $limit, 2 => $limit }, dropped => 0, oom => out_of_memory() };
}
sub fail { POSIX::write(2, "$_[0]\n", 1 + length $_[0]); POSIX::_exit($_[1]) }
sub forward {
  my ($number, $stream) = @_;
  my $command = $commands{$number}; my $from = $command->{$stream} or return 0;
  my $n = sysread $from, my $content, 65536;
  if (!defined $n) { return 0 if $!{EAGAIN} || $!{EINTR}; $n = 0 }
  if ($n == 0) { delete $command->{$stream}; return 0 }
  my $kept = $n < $command->{left}{$stream} ? $n : $command->{left}{$stream};
  $command->{left}{$stream} -= $kept; $command->{dropped} += $n - $kept;
  tell_host($stream, $number, substr $content, 0, $kept) if $kept;
  return $n;
}
sub feed {
  my $command = $_[0]; my $to = $command->{0} or return;
  if (length $command->{stdin}) {
    my $n = syswrite $to, $command->{stdin};
    if (defined $n) { substr($command->{stdin}, 0, $n) = '' }
    elsif (!$!{EAGAIN} && !$!{EINTR}) { delete $command->{0}; $command->{stdin} = ''; return }
  }
  delete $command->{0} if $command->{ended} && !length $command->{stdin};
}
sub reap {
  while ((my $pid = waitpid -1, POSIX::WNOHANG()) > 0) {
    my $status = $?; my $number = delete $number_of{$pid};
    start_forwarder() if $forwarder && $pid == $forwarder;
    next unless defined $number;
    for my $stream (1, 2) { for (1 .. 64) { last unless forward($number, $stream) } }
    tell_host(2, $number, "the sandbox ran out of memory, and a process was killed for it\n") if out_of_memory() > $commands{$number}{oom};
    my $code = $status & 127 ? 128 + ($status & 127) : $status >> 8;
    tell_host(3, $number, "$code $commands{$number}{dropped}");
    delete $commands{$number};
  }
}
sub obey {
  my ($type, $number, $content) = @_;
  return start($number, $content) if $type == 1;
  my $command = $commands{$number} or return;
  if ($type == 2) { $command->{stdin} .= $content if $command->{0}; feed($command) }
  elsif ($type == 3) { $command->{ended} = 1; feed($command) }
  elsif ($type == 4) { kill 'KILL', -$command->{pid}, $command->{pid} }
}
# A path may lead elsewhere by the time it is mounted. Arguments are "device inode path" as they were outside, the workspace's
# first. A machine of the engine's own has other numbers for devices, and then inodes alone are compared.
sub replaced {
  my $devices;
  for (@ARGV) {
    my ($device, $inode, $path) = split / /, $_, 3; my ($is_device, $is_inode) = stat $path;
    $devices //= defined $is_device && $is_device == $device;
    return "mount $path" unless defined $is_inode && ($path eq '/workspace' || $is_inode == $inode && (!$devices || $is_device == $device));
  }
  return '';
}
# Room on the disk is taken by writing alone, which takes its time: fallocate, and the controls of file systems that do the same,
# are not supported, by a filter of system calls. Programs then write instead. Numbers are those of x64, x32, i386, arm64 and arm.
sub refuse_allocation {
  my ($allow, $refuse) = ([6, 0, 0, 0x7fff0000], [6, 0, 0, 0x50000 | 95]);
  my @filter = [0x20, 0, 0, 4];
  for ([0xc000003e, 285, 16], [0xc000003e, 0x4000011d, 0x40000202], [0x40000003, 324, 54], [0xc00000b7, 47, 29], [0x40000028, 352, 54]) {
    my ($machine, $fallocate, $ioctl) = @$_;
    my @calls = ([0x20, 0, 0, 0], [0x15, 0, 1, $fallocate], $refuse, [0x15, 0, 4, $ioctl], [0x20, 0, 0, 24], [0x54, 0, 0, 0xff00], [0x15, 0, 1, ord('X') << 8], $refuse, [0x20, 0, 0, 4]);
    push @filter, [0x15, 0, scalar @calls, $machine], @calls;
  }
  my $code = join '', map { pack 'SCCL', @$_ } @filter, $allow;
  syscall $prctl, 38, 1, 0, 0, 0; syscall $prctl, 22, 2, pack 'Sx6P', @filter + 1, $code;
}
refuse_allocation();
sub missing {
  for my $program (qw(bash sh cat mkdir)) { return "program $program" unless grep -x "$_/$program", split /:/, $ENV{PATH} // '' }
  return '';
}
tell_host(5, 0, missing() || replaced());
while (1) {
  my ($read, $write) = ('', '');
  vec($read, fileno $_, 1) = 1 for \*STDIN, $woken;
  for my $command (values %commands) {
    for my $stream (1, 2) { vec($read, fileno $command->{$stream}, 1) = 1 if $command->{$stream} }
    vec($write, fileno $command->{0}, 1) = 1 if $command->{0} && length $command->{stdin};
  }
  # A signal that comes just before the wait is handled after it: perl puts handlers off. So while a command runs, it is short.
  next if select($read, $write, undef, %commands ? 0.1 : undef) < 0;
  sysread $woken, my $ignored, 4096 if vec($read, fileno $woken, 1);
  reap();
  for my $number (keys %commands) {
    for my $stream (1, 2) {
      my $from = $commands{$number}{$stream};
      forward($number, $stream) if $from && vec($read, fileno $from, 1);
    }
    my $to = $commands{$number}{0};
    feed($commands{$number}) if $to && vec($write, fileno $to, 1);
  }
  next unless vec($read, fileno STDIN, 1);
  my $n = sysread STDIN, $in, 65536, length $in;
  if (!defined $n) { next if $!{EINTR} || $!{EAGAIN}; leave() }
  leave() if $n == 0;
  while (length $in >= 9) {
    my ($length, $type, $number) = unpack 'NCN', $in;
    last if length $in < 9 + $length;
    my $content = substr $in, 9, $length; substr($in, 0, 9 + $length) = '';
    obey($type, $number, $content);
  }
}

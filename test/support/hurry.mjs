// Preloaded into a program: a wait of a minute and a half takes three seconds, and then it is a minute and a half later.
const { setTimeout } = globalThis
const { now } = Date
let skipped = 0
Date.now = () => now() + skipped
globalThis.setTimeout = Object.assign((callback, delay, ...rest) => {
  if (delay < 80_000 || delay > 90_000) return setTimeout(callback, delay, ...rest)
  return setTimeout(() => {
    skipped += Math.round((delay * 29) / 30)
    callback(...rest)
  }, delay / 30)
}, setTimeout)

/** Numbers with their units, as pages show them. */

import { digits } from '../text.ts'

/** A duration, with the unit that makes it short. */
export function durationOf(us: number): { readonly value: string; readonly unit: string } {
  if (us < 999.5) return { value: digits(us), unit: 'µs' }
  return us < 999_500 ? { value: digits(us / 1e3), unit: 'ms' } : { value: digits(us / 1e6), unit: 's' }
}

/** `85.2 µs`, `3.83 ms`. */
export function durationText(us: number): string {
  const { value, unit } = durationOf(us)
  return `${value} ${unit}`
}

/** Of a tick: `50 µs`, `1 ms`. */
export function roundDurationText(us: number): string {
  const [value, unit] = us < 1e3 ? [us, 'µs'] : us < 1e6 ? [us / 1e3, 'ms'] : [us / 1e6, 's']
  return `${Number(value.toPrecision(3))} ${unit}`
}

/** `94 %`. */
export function percentText(share: number): string {
  return `${share < 0.095 ? digits(share * 100) : Math.round(share * 100)} %`
}

/** `30 November 2026 at 09:47 UTC`. */
export function timeText(iso: string): string {
  const time = new Date(iso)
  const format = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' })
  return Number.isNaN(time.getTime()) ? iso : `${format.format(time)} UTC`
}

export function surfaceOf(name: string, module: object, known?: object): string[]
export function unevenness(surface: readonly string[], checked: readonly string[]): string[]
